"""What of a package's folders would ship: the safe list for models and code alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpkg.errors import SpecError
from mlpkg.plan.snapshot import snapshot
from mlpkg.spec.listing import Snapshot
from mlpkg.spec.workspace import load

SPEC = """\
[package]
name = "p"

[[models]]
name = "m"
path = "model"
{ignore}

[[models]]
name = "k"
path = "named.pem"

[entry]
script = "score.py"
source_directory = "src"
"""
FILES = (
    "model/weights.bin",
    "model/.git/config",
    "model/.env",
    "model/.ssh/id_rsa",
    "model/deep/server.pem",
    "model/checkpoints/1.bin",
    "src/score.py",
    *(f"src/{name}" for name in ("credentials.json", ".npmrc", "secrets.toml", "terraform.tfstate", "kubeconfig")),
    *("src/pip.conf", "src/.azureml/config.json", "src/__pycache__/score.pyc"),
    "named.pem",
)  # fmt: skip


def taken(folder: Path, ignore: str = "") -> Snapshot:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("canary")
    (folder / "package.toml").write_text(SPEC.format(ignore=ignore))
    return snapshot(load(folder).package("p"))


def paths(shot: Snapshot) -> list[list[str]]:
    return [[entry.path for entry in entries] for entries in (*shot.models, shot.code)]


def test_no_secret_ships_with_a_model_or_with_code(tmp_path: Path) -> None:
    shot = taken(tmp_path)
    assert paths(shot) == [["checkpoints/1.bin", "weights.bin"], ["named.pem"], ["score.py"]]


def test_a_model_has_patterns_of_its_own(tmp_path: Path) -> None:
    shot = taken(tmp_path, 'ignore = ["checkpoints/", "!server.pem"]')
    assert paths(shot)[0] == ["deep/server.pem", "weights.bin"]


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    shot = taken(tmp_path)
    assert shot.left_out.count == 11
    assert (
        str(shot.left_out)
        == "model/.env, model/.git/, model/.ssh/, model/deep/server.pem, src/.azureml/ and 6 more"
    )


def test_a_pattern_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"models\[0\]"):
        taken(tmp_path, 'ignore = ["[z-a]"]')
