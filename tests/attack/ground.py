"""What is attacked: two small packages, a user's own training, and a real registry as a process."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpkg.registry import bundled
from mlpkg.remote.client import Registry
from tests.tasks.place import Ended, Place

NAMES = ("a", "b")

SPEC = """[package]
name = "{name}"
version = "1.0.0"

[[models]]
name = "m"
path = "model"

[entry]
script = "main.py"
source_directory = "code"
ignore = ["*.tmp"]

[environment]
requirements = "requirements.txt"
variables = {{ LEVEL = "0" }}

[server]
kind = "custom"
command = ["/bin/sleep", "1"]
"""

DODO = """
from mlpkg.tasks import *

def task_train():
    return {
        "actions": ["cp train.txt packages/a/model/trained"],
        "file_dep": ["train.txt"],
        "targets": ["packages/a/model/trained"],
    }
"""

RUNS: tuple[tuple[str, ...], ...] = (("doit",), ("doit", "-n", "4"), ("mlpkg", "push"))


def seed() -> int:
    """`MLPKG_SEED`, else always the same; printed, so that a failure can be had again."""
    chosen = int(os.environ.get("MLPKG_SEED") or 20261123)
    print(f"MLPKG_SEED={chosen}")
    return chosen


@dataclass
class Ground:
    """The workspace, the folder for clean builds beside it, and the registry."""

    place: Place
    clean: Path

    @property
    def folder(self) -> Path:
        return self.place.folder

    def run(self, arguments: tuple[str, ...]) -> Ended:
        """One run, which must succeed."""
        return self.place.run(*arguments)

    def record(self, package: str, name: str) -> Any:
        path = self.folder / ".mlpkg" / package / name
        return json.loads(path.read_text())["result"]

    def digests(self) -> dict[str, str]:
        return {name: self.record(name, "image.json")["digest"] for name in NAMES}

    def clean_digests(self) -> dict[str, str]:
        """What a build from nothing gives: another folder, no record, the same locks."""
        shutil.rmtree(self.clean, ignore_errors=True)
        ignored = shutil.ignore_patterns(".mlpkg", ".doit*", "__pycache__")
        shutil.copytree(self.folder, self.clean, symlinks=True, ignore=ignored)
        other = Ground(Place(self.clean, self.place.environ), self.clean)
        other.run(("mlpkg", "build"))
        return other.digests()

    def require_pushed(self) -> None:
        """What the receipts say is what was built and tagged, and what the registry has."""
        from mlpkg.spec.workspace import load

        settings = load(self.folder).settings.registry
        endpoint = bundled.credentials(settings)
        with Registry(endpoint.address, endpoint.credentials) as client:
            for name in NAMES:
                receipt, tagged = self.record(name, "push.json"), self.record(name, "tags.json")
                assert receipt["digest"] == tagged["digest"] == self.digests()[name]
                assert receipt["tags"] == tagged["tags"]
                for tag in receipt["tags"]:
                    held = client.head_manifest(name, tag)
                    assert held is not None
                    assert held.digest == receipt["digest"]

    def require_settled(self) -> None:
        """The images are those of a clean build, the registry has them, and another run has nothing to do."""
        assert self.digests() == self.clean_digests()
        self.require_pushed()
        for arguments in RUNS[0], RUNS[2]:
            assert self.run(arguments).done == []


@contextmanager
def ground(folder: Path, environ: Mapping[str, str]) -> Iterator[Ground]:
    """Make the workspace and build it once; stop the registry afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Ground(Place(folder / "w", environ), folder / "clean")
    place = made.place
    place.write(
        "mlpkg.toml", f'[python]\nindex = ""\n[registry]\nport = {port}\nstorage = "{folder}/storage"\n'
    )
    place.write("dodo.py", DODO)
    place.write("train.txt", "trained 0")
    for name in NAMES:
        place.write(f"packages/{name}/package.toml", SPEC.format(name=name))
        place.write(f"packages/{name}/requirements.txt", "# none\n")
        place.write(f"packages/{name}/code/main.py", "pass\n")
        for number in range(3):
            place.write(f"packages/{name}/model/part{number}", f"{name} part {number}")
            place.write(f"packages/{name}/code/sub/module{number}.py", f"# {name} {number}\n")
    try:
        made.run(("mlpkg", "push"))
        yield made
    finally:
        place.mlpkg("registry", "down", code=None)
