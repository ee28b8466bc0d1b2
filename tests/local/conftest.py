"""The private uv and the wheelhouse of the wheel tests, for virtual environments as well."""

from __future__ import annotations

from tests.wheels.conftest import _private_uv, house, serve, sources

__all__ = ["_private_uv", "house", "serve", "sources"]
