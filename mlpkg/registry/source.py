"""Where the registry itself comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """The registry as an image and as an executable. Both are made when they are first asked for."""

    def image(self) -> tuple[str, Iterator[bytes]]:
        """The image: its config's digest and a docker-archive tar, read only if the engine lacks it."""
        ...

    def binary(self) -> Path:
        """The executable, for a start without an engine."""
        ...
