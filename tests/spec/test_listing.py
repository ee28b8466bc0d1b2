"""Listing a tree: names and kinds, safe by default, nothing that leaves the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlpkg.errors import SpecError
from mlpkg.spec.listing import Listing, SourceEntry, list_file, list_tree


def names(folder: Path, *ignore: str) -> list[str]:
    return [entry.path for entry in listed(folder, *ignore).entries]


def listed(folder: Path, *ignore: str) -> Listing:
    return list_tree(folder, ignore=ignore, place="m", shown="package.toml", key="models[0].path")


def fill(folder: Path, *paths: str) -> Path:
    for name in paths:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_sorted_by_path_with_size_and_executable_bit(tmp_path: Path) -> None:
    fill(tmp_path, "b.py", "a/z.py", "a/b/c.py")
    (tmp_path / "b.py").chmod(0o755)
    assert listed(tmp_path).entries == (
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


def test_what_was_left_out_is_told_by_name(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "weights",
        ".git/config",
        ".git/HEAD",
        ".env",
        "a/__pycache__/x.pyc",
        "a/.DS_Store",
        "a/k.pem",
    )
    assert str(listed(tmp_path).left_out) == "m/.env, m/.git/, m/a/k.pem"
    fill(tmp_path, *(f"keys/{number:03}.key" for number in range(300)), ".aws/credentials")
    assert listed(tmp_path).left_out.count == 304
    assert str(listed(tmp_path).left_out) == (
        "m/.aws/, m/.env, m/.git/, m/a/k.pem, m/keys/000.key and 299 more"
    )
    # what the spec itself leaves out is no news; what it takes back ships
    assert str(listed(tmp_path, "keys/", ".env", "!k.pem").left_out) == "m/.aws/, m/.git/"


def test_a_name_cannot_break_the_line(tmp_path: Path) -> None:
    fill(tmp_path, "a\n\x1b[31m.pem")
    assert str(listed(tmp_path).left_out) == "m/a\\n\\x1b[31m.pem"


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
    (entry, _) = listed(tmp_path).entries
    assert entry == SourceEntry("current", 0, target="real")


def test_all_that_cannot_ship_is_named_at_once(tmp_path: Path) -> None:
    inside = fill(tmp_path / "inside", "fine")
    fill(tmp_path, "secret")
    (inside / "out").symlink_to("../secret")
    (inside / "absolute").symlink_to(tmp_path / "secret")
    (inside / "broken").symlink_to("nowhere")
    os.mkfifo(inside / "pipe")
    with pytest.raises(SpecError) as caught:
        listed(inside)
    text = str(caught.value)
    assert "4 problems" in text
    for word in ("out", "absolute", "broken", "pipe"):
        assert f'models[0].path: "m/{word}" is' in text


def test_a_link_to_what_does_not_ship_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "old/a.bin", "new/b.bin", "tmp/c.log", ".env", "deep/er/d.bin")
    links = {
        "to-ignored": "old/a.bin",
        "to-ignored-folder": "old",
        "to-secret": ".env",
        "to-emptied": "tmp",
        "through": "alias/b.bin",  # `alias` is ignored itself, what it leads to is not
        "alias": "new",
        "fine": "new/b.bin",
        "fine-folder": "deep",
        "fine-through": "fine-folder/er/d.bin",
        "deep/up": "../new",
        "deep/er/top": "../../new/../deep/er",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    with pytest.raises(SpecError) as caught:
        listed(tmp_path, "/old/", "*.log", "/alias")
    assert [problem.message for problem in caught.value.problems] == [
        '"m/through" is a link to "alias/b.bin", which does not ship',
        '"m/to-emptied" is a link to "tmp", which does not ship',
        '"m/to-ignored" is a link to "old/a.bin", which does not ship',
        '"m/to-ignored-folder" is a link to "old", which does not ship',
        '"m/to-secret" is a link to ".env", which does not ship',
    ]
    assert all("`ignore`" in problem.hint for problem in caught.value.problems)


def test_many_problems_are_bounded(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"gone{number:03}").symlink_to("nowhere")
    with pytest.raises(SpecError) as caught:
        listed(tmp_path)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1].message == "and 480 more like these"


def test_a_tree_deeper_than_the_stack(tmp_path: Path) -> None:
    folders = [f"{tmp_path}{'/d' * depth}" for depth in range(1, 1201)]
    for folder in folders:
        os.mkdir(folder)  # noqa: PTH102 - pathlib recurses
    file = Path(f"{folders[-1]}/f")
    file.write_text("x")
    try:
        assert [len(entry.path) for entry in listed(tmp_path).entries] == [2401]
    finally:
        # pytest's own clean-up recurses too
        file.unlink()
        for folder in reversed(folders):
            os.rmdir(folder)  # noqa: PTH106


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/b/f", "ok")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SpecError, match='"m/a/b" cannot be read: Permission denied'):
        listed(tmp_path)


def test_a_file_that_is_named_ships_whatever_it_is_called(tmp_path: Path) -> None:
    fill(tmp_path, "server.key")
    listing = list_file(tmp_path / "server.key", shown="package.toml", key="models[0].path")
    assert [entry.path for entry in listing.entries] == ["server.key"]
    assert not listing.left_out.count


def test_a_single_file_must_be_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="neither a file nor a folder"):
        list_file(tmp_path / "pipe", shown="package.toml", key="entry.script")
