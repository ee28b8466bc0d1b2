"""A small workspace with one package that needs no Python, and a user's own tasks beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 120

SPEC = """[package]
name = "{name}"
version = "1.0.0"

[[models]]
name = "m"
path = "model"

[server]
kind = "custom"
command = ["/bin/sleep", "1"]
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def done(self) -> list[str]:
        """Names of the doit tasks that ran."""
        return [line[3:].strip() for line in (self.out + self.err).splitlines() if line.startswith(".  ")]

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Place:
    """A workspace, and the environment that its commands run in."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``python -m …`` here."""
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, code: int | None = 0) -> Ended:
        """Run ``python -m …`` here; it must end with `code`, and without a traceback."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        ended = Ended(process.returncode, out, err)
        assert code is None or ended.code == code, f"{arguments}: exit {ended.code}\n{out}\n{err}"
        assert "Traceback" not in ended.text, ended.text
        return ended

    def doit(self, *arguments: str, code: int | None = 0) -> Ended:
        """Run doit."""
        return self.run("doit", *arguments, code=code)

    def mlpkg(self, *arguments: str, code: int | None = 0) -> Ended:
        """Run mlpkg."""
        return self.run("mlpkg", *arguments, code=code)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the workspace."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def package(self, name: str = "p", *, lock: Path | None = None, spec: str = "") -> Path:
        """Make a package with a model folder; `lock` is another one's that fits."""
        folder = self.write(f"packages/{name}/package.toml", SPEC.format(name=name) + spec).parent
        self.write(f"packages/{name}/model/weights", f"weights of {name}")
        if lock:
            shutil.copy(lock, folder / "package.lock")
        return folder

    def digest(self, name: str = "p") -> str:
        """The image's digest of the last build."""
        import json

        return str(json.loads((self.folder / ".mlpkg" / name / "image.json").read_text())["result"]["digest"])
