"""The bases that an image may stand on, and what else must fit them. Light: every load of a spec reads this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


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
