"""What images run on: processors by all their names, and the Debian suites that a base is made from.

Light: every load of a spec reads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Platform(NamedTuple):
    """One operating system and processor, under the names that others have for it."""

    name: str
    """``linux/amd64``: OCI image-spec, "Platform Variants" (GOOS/GOARCH)."""
    debian: str
    """``amd64``: Debian's architecture."""
    machine: str
    """``x86_64``: as `uname -m` and wheel tags have it."""
    triplet: str
    """``x86_64-linux-gnu``: Debian's multiarch folder of libraries."""


PLATFORMS: Mapping[str, Platform] = {
    platform.name: platform
    for platform in (
        Platform("linux/amd64", debian="amd64", machine="x86_64", triplet="x86_64-linux-gnu"),
        Platform("linux/arm64", debian="arm64", machine="aarch64", triplet="aarch64-linux-gnu"),
    )
}
"""By the name that `image.platforms` gives."""

BY_ARCHITECTURE: Mapping[str, Platform] = {platform.debian: platform for platform in PLATFORMS.values()}
"""By Debian's name."""


class Base(NamedTuple):
    """A Debian suite with its Python and its C library (as its packages `python3` and `libc6` have them)."""

    suite: str
    python: str
    """``3.13``: major and minor."""
    glibc: str
    """``2.41``: wheels for a newer one do not run."""

    @property
    def python_pair(self) -> tuple[int, int]:
        """``(3, 13)``: the Python as numbers, which compare as they should."""
        major, minor = self.python.split(".")
        return int(major), int(minor)


BASES: Mapping[str, Base] = {
    "debian:trixie": Base("trixie", python="3.13", glibc="2.41"),
    "debian:bookworm": Base("bookworm", python="3.11", glibc="2.36"),
}
"""By the name that `image.base` gives."""


def platform_of(system: str, machine: str) -> Platform | None:
    """The platform of a machine, from what `platform.system()` and `platform.machine()` say of it."""
    wanted = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    found = (known for known in PLATFORMS.values() if known.machine == wanted)
    return next(found, None) if system.lower() == "linux" else None
