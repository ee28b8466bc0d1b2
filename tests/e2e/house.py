"""A place to run mlpkg in: copies of the example workspace, with caches, state and registry of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 300


@dataclass(frozen=True)
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def done(self) -> list[str]:
        """Names of the doit tasks that ran."""
        return [line[3:].strip() for line in (self.out + self.err).splitlines() if line.startswith(".  ")]

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class House:
    """Where caches and state lie, and the registry's port; shared by several workspaces."""

    cache: Path
    state: Path
    port: int
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment for every command."""
        own = {
            "MLPKG_CACHE_HOME": str(self.cache),
            "MLPKG_STATE_HOME": str(self.state),
        }
        return {**os.environ, **own, **self.extra}

    def workspace(self, folder: Path) -> Workspace:
        """A copy of this repository's workspace."""
        folder.mkdir(parents=True)
        for name in ("dodo.py",):
            shutil.copy(ROOT / name, folder)
        ignore = shutil.ignore_patterns("model", "__pycache__", "*.lock")
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignore)
        settings = (ROOT / "mlpkg.toml").read_text() + f"\n[registry]\nport = {self.port}\n"
        (folder / "mlpkg.toml").write_text(settings)
        return Workspace(folder, self)


@dataclass(frozen=True)
class Workspace:
    """A workspace with the example package."""

    folder: Path
    house: House

    @property
    def package(self) -> Path:
        """The example's folder."""
        return self.folder / "examples" / "diabetes"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``python -m …`` in the workspace."""
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self.house.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, code: int | None = 0) -> Run:
        """Run ``python -m …`` in the workspace; it must end with `code`."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT)
        ended = Run(process.returncode, out, err)
        assert code is None or ended.code == code, f"{arguments}: exit {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def doit(self, *arguments: str, code: int | None = 0) -> Run:
        """Run doit."""
        return self.run("doit", *arguments, code=code)

    def mlpkg(self, *arguments: str, code: int | None = 0) -> Run:
        """Run mlpkg."""
        return self.run("mlpkg", *arguments, code=code)

    def record(self, name: str, package: str = "diabetes") -> Any:
        """The `result` of one of a package's records (image.json, push.json)."""
        return json.loads((self.folder / ".mlpkg" / package / name).read_text())["result"]

    def digest(self) -> str:
        """The image's manifest digest."""
        return str(self.record("image.json")["digest"])

    def made(self) -> list[str]:
        """The layers that the last build made."""
        return list(self.record("image.json")["made"])
