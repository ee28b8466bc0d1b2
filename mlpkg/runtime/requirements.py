"""What the server needs beside the standard library: docs/decisions/0010-http-layer.md."""

from __future__ import annotations

from typing import Final

REQUIREMENTS: Final[tuple[str, ...]] = ("httptools>=0.5",)
"""Requirements (PEP 508), locked together with the user's own."""
