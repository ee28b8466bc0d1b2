"""Where a workspace's images go: its registry by address, or the bundled one, which is started where it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlpkg.digest import Descriptor
from mlpkg.errors import UsageError
from mlpkg.progress import Notify
from mlpkg.registry import bundled, layers
from mlpkg.registry.bundled import Endpoint
from mlpkg.registry.own_image import BundledSource
from mlpkg.remote.client import Registry
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
    return _bundled(bundled.up(settings.registry, BundledSource(settings, notify), notify=notify))


def kept_layers(settings: WorkspaceSpec) -> Callable[[Descriptor], Iterator[bytes]]:
    """Reads a locked layer from the workspace's registry, where one is known and keeps it; starts none.

    What it gives raises RegistryError, Unreachable, DigestMismatch, or UsageError where no registry is known yet.
    """

    def read(layer: Descriptor) -> Iterator[bytes]:
        where = _known(settings)
        with Registry(where.address, where.credentials) as client:
            yield from layers.read(client, layer)

    return read


def _known(settings: WorkspaceSpec) -> Destination:
    """The workspace's registry as it is known, without asking whether it runs. Raises UsageError."""
    if settings.registry.address:
        return Destination(settings.registry.address, None, is_bundled=False)
    endpoint = bundled.known_endpoint(settings.registry)
    if endpoint is None:
        raise UsageError("no registry was started yet", hint="start it with `mlpkg registry up`")
    return _bundled(endpoint)


def _bundled(endpoint: Endpoint) -> Destination:
    login = endpoint.credentials
    return Destination(
        endpoint.address, Credentials(login.username, login.password) if login else None, is_bundled=True
    )
