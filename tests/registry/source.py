"""The machine's own `docker-registry` as what `mlpkg.registry.bundled.up` starts: as it is, or packed into an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.engine.archive import docker_archive

COMMAND = ["/usr/bin/docker-registry", "serve", "/etc/mlpkg-registry/config.yml"]


@dataclass
class BinarySource:
    """`mlpkg.registry.bundled.Source` from an executable of this machine. Notes what it is asked for."""

    executable: Path
    packed: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def binary(self) -> Path:
        self.asked.append("binary")
        return self.executable

    def image(self) -> tuple[str, Iterator[bytes]]:
        self.asked.append("image")
        digest, stream = docker_archive(
            {"usr/bin/docker-registry": self.executable}, {"User": "65532", "Cmd": COMMAND}
        )
        self.packed.add(digest)
        return digest, stream
