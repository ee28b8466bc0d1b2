"""Listing a tree: names and kinds, safe by default, nothing that leaves the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlpkg.errors import SpecError
from mlpkg.spec.listing import DEFAULT_IGNORE, SourceEntry, list_file, list_tree


def names(folder: Path, *ignore: str) -> list[str]:
    entries = list_tree(folder, ignore=(*DEFAULT_IGNORE, *ignore), shown="package.toml", key="entry")
    return [entry.path for entry in entries]


def fill(folder: Path, *paths: str) -> Path:
    for name in paths:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_sorted_by_path_with_size_and_executable_bit(tmp_path: Path) -> None:
    fill(tmp_path, "b.py", "a/z.py", "a/b/c.py")
    (tmp_path / "b.py").chmod(0o755)
    entries = list_tree(tmp_path, shown="package.toml", key="entry")
    assert entries == (
        SourceEntry("a/b/c.py", 8),
        SourceEntry("a/z.py", 6),
        SourceEntry("b.py", 4, is_executable=True),
    )


def test_what_must_not_ship_does_not(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "score.py",
        ".env",
        ".git/config",
        "x/id_rsa",
        "x/server.pem",
        "x/__pycache__/a.pyc",
        ".netrc",
    )
    assert names(tmp_path) == ["score.py"]


def test_patterns_are_those_of_gitignore(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "score.py",
        "tests/test_a.py",
        "lib/tests/test_b.py",
        "n.ipynb",
        "keep.ipynb",
        "certs/ca.pem",
    )
    assert names(tmp_path, "/tests/", "*.ipynb", "!keep.ipynb", "!certs/ca.pem") == [
        "certs/ca.pem",
        "keep.ipynb",
        "lib/tests/test_b.py",
        "score.py",
    ]


def test_a_link_inside_stays_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "real/weights.bin")
    (tmp_path / "current").symlink_to("real")
    (entry, _) = list_tree(tmp_path, shown="package.toml", key="models[0].path")
    assert entry == SourceEntry("current", 0, target="real")


def test_all_that_cannot_ship_is_named_at_once(tmp_path: Path) -> None:
    inside = fill(tmp_path / "inside", "fine")
    fill(tmp_path, "secret")
    (inside / "out").symlink_to("../secret")
    (inside / "absolute").symlink_to(tmp_path / "secret")
    (inside / "broken").symlink_to("nowhere")
    os.mkfifo(inside / "pipe")
    with pytest.raises(SpecError) as caught:
        list_tree(inside, shown="package.toml", key="models[0].path")
    text = str(caught.value)
    assert "4 problems" in text
    for word in ("out", "absolute", "broken", "pipe"):
        assert f"models[0].path: {word} is" in text


def test_a_single_file_must_be_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="neither a file nor a folder"):
        list_file(tmp_path / "pipe", shown="package.toml", key="entry.script")
