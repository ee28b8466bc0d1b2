"""Where a workspace's images go: its registry by address, or the bundled one, which is started where it must be."""

from __future__ import annotations

from dataclasses import dataclass

from mlpkg.progress import Notify
from mlpkg.registry import bundled
from mlpkg.registry.own_image import BundledSource
from mlpkg.remote.credentials import Credentials
from mlpkg.spec.model import WorkspaceSpec


@dataclass(frozen=True, slots=True)
class Destination:
    """A registry to push to. `is_bundled` decides whether version tags may move; no credentials: Docker's."""

    address: str
    credentials: Credentials | None
    is_bundled: bool


def destination(settings: WorkspaceSpec, notify: Notify) -> Destination:
    """The workspace's registry; the bundled one is started where it is not running.

    Raises what `mlpkg.registry.bundled.up` raises.
    """
    if settings.registry.address:
        return Destination(settings.registry.address, None, is_bundled=False)
    endpoint = bundled.up(settings.registry, BundledSource(settings, notify), notify=notify)
    login = endpoint.credentials
    return Destination(
        endpoint.address, Credentials(login.username, login.password) if login else None, is_bundled=True
    )
