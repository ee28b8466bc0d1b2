"""Images of the Docker engine: load, find, pull, name, remove."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from mlpkg.engine.client import TRANSFER, client, raise_in_band
from mlpkg.errors import MlpkgError

_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")


def load(stream: Iterable[bytes]) -> str:
    """Load an image from a docker-archive tar, sent as it is made, and return its id.

    The id is the config's digest in the classic image store and the manifest's in containerd's store.
    Raises MlpkgError (the engine refused), Unreachable, and whatever `stream` raises.
    """
    names: list[str] = []
    with client("loading an image", TRANSFER) as api:
        # A generator makes requests send chunks; anything with a length would be held in memory.
        for row in api.load_image((piece for piece in stream), quiet=True):
            raise_in_band(row, "loading an image")
            names += _LOADED.findall(str(row.get("stream", "")))
        if not names:
            raise MlpkgError("the Docker engine loaded no image", hint="the archive held none")
        return str(api.inspect_image(names[-1])["Id"])


def image_id(image: str) -> str | None:
    """The id of an image by id or name, or None when the engine lacks it. Raises Unreachable."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    with client(f"looking for the image {image}") as api:
        try:
            return str(api.inspect_image(image)["Id"])
        except ImageNotFound:
            return None


def pull(reference: str, credentials: tuple[str, str] | None = None) -> str:
    """Pull ``host/repository@sha256:…`` (or a tag) and return the image's id.

    Without `credentials` (user name, password) those of Docker's configuration are used.
    Raises MlpkgError (refused; not there), Unreachable.
    """
    what = f"pulling {reference}"
    login = {"username": credentials[0], "password": credentials[1]} if credentials else None
    with client(what, TRANSFER) as api:
        for row in api.pull(reference, stream=True, decode=True, auth_config=login):
            raise_in_band(row, what)
        return str(api.inspect_image(reference)["Id"])


def tag(image: str, name: str) -> None:
    """Give an image of the engine the name ``[host[:port]/]repository:tag``. Raises MlpkgError, Unreachable."""
    repository, _, label = name.rpartition(":")
    if not repository or "/" in label:
        raise MlpkgError(f"not an image name with a tag: {name}")
    with client(f"naming an image {name}") as api:
        api.tag(image, repository, label)


def remove_image(name: str) -> None:
    """Take a name from an image, and the image when it was its last. An absent one is fine."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    with client(f"removing the image {name}") as api, suppress(ImageNotFound):
        api.remove_image(name)
