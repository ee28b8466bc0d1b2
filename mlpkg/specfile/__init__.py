"""Spec files: package.toml and mlpkg.toml, read and checked. `mlpkg.specfile.disk` checks the files they name."""

from __future__ import annotations

from mlpkg.specfile.parse import load_package, load_workspace, parse_package, parse_workspace

__all__ = ["load_package", "load_workspace", "parse_package", "parse_workspace"]
