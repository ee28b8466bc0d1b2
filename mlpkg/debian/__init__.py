"""Debian packages, without apt, dpkg, root or maintainer scripts: choose, lock, fetch, turn into layers."""

from __future__ import annotations

from mlpkg.debian.base import SUITES, base_packages, glibc_version, python_version
from mlpkg.debian.closure import resolve
from mlpkg.debian.entries import FORMAT, layer_entries
from mlpkg.debian.fetch import fetch_deb, fetch_debs
from mlpkg.debian.index import PackageIndex, load_index
from mlpkg.debian.mirror import Mirrors, choose_mirrors

__all__ = [
    "FORMAT",
    "SUITES",
    "Mirrors",
    "PackageIndex",
    "base_packages",
    "choose_mirrors",
    "fetch_deb",
    "fetch_debs",
    "glibc_version",
    "layer_entries",
    "load_index",
    "python_version",
    "resolve",
]
