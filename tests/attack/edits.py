"""Random edits of a workspace. Each says which package it concerns and which steps it may make run."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .ground import NAMES, Ground

BUILD = frozenset({"build", "tag", "push"})
PLAN = BUILD | {"render"}
ALL = PLAN | {"lock"}
NONE = frozenset[str]()


@dataclass(frozen=True)
class Edit:
    """What was done: to which packages, and the steps that it may make run there."""

    text: str
    packages: tuple[str, ...]
    may: frozenset[str]
    trains: bool = False


Editor = Callable[[Ground, random.Random, str], Edit]


def _files(ground: Ground, name: str) -> list[Path]:
    """The package's files, but for the script and what the user's task makes."""
    folder = ground.folder / "packages" / name
    found = [path for part in ("model", "code") for path in sorted((folder / part).rglob("*"))]
    return [
        path
        for path in found
        if path.is_file() and not path.is_symlink() and path.name not in ("main.py", "trained")
    ]


def _text(chance: random.Random, length: int) -> str:
    return "#" + "".join(chance.choices("abcdef \n#", k=max(0, length - 1)))


def content(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = chance.choice(_files(ground, name))
    path.write_text(_text(chance, chance.randrange(1, 60)))
    return Edit(f"content of {path}", (name,), BUILD)


def same_size(ground: Ground, chance: random.Random, name: str) -> Edit:
    """Other content of the same size, and the old time: what doit and make call unchanged."""
    path = chance.choice(_files(ground, name))
    status = path.stat()
    path.write_text(_text(chance, status.st_size) if status.st_size else "")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return Edit(f"same size and time of {path}", (name,), BUILD)


def touch(ground: Ground, chance: random.Random, name: str) -> Edit:
    files = [*_files(ground, name), *(ground.folder / "packages" / name).glob("*.t*")]
    path = chance.choice(files)
    os.utime(path, (chance.randrange(2**31),) * 2)
    return Edit(f"touch {path}", (name,), NONE)


def rename(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = chance.choice(_files(ground, name))
    path.rename(path.with_name(f"named{chance.randrange(1000)}.py"))
    return Edit(f"rename {path}", (name,), PLAN)


def swap(ground: Ground, chance: random.Random, name: str) -> Edit:
    one, other = chance.sample(_files(ground, name), 2)
    aside = one.with_name("aside.swapped")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return Edit(f"swap {one} and {other}", (name,), PLAN)


def mode(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = chance.choice(_files(ground, name))
    path.chmod(path.stat().st_mode ^ 0o111)
    return Edit(f"mode of {path}", (name,), PLAN)


def link(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = ground.folder / "packages" / name / "code" / "linked.py"
    if path.is_symlink():
        path.unlink()
    else:
        # To what is always there: a link to what does not ship is refused, and rightly so.
        path.symlink_to("main.py")
    return Edit(f"link {path}", (name,), PLAN)


def add(ground: Ground, chance: random.Random, name: str) -> Edit:
    part = chance.choice(["model", "code", "model/deep", "code/sub"])
    path = (
        ground.folder
        / "packages"
        / name
        / part
        / f"added{chance.randrange(1000)}.{chance.choice(['py', 'tmp'])}"
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(_text(chance, 20))
    return Edit(f"add {path}", (name,), PLAN)


def remove(ground: Ground, chance: random.Random, name: str) -> Edit:
    files = _files(ground, name)
    if len(files) < 6:
        return add(ground, chance, name)
    path = chance.choice(files)
    path.unlink()
    return Edit(f"remove {path}", (name,), PLAN)


def key(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = ground.folder / "packages" / name / "package.toml"
    text = path.read_text()
    old, new = chance.choice(
        [
            (r'LEVEL = "\d+"', f'LEVEL = "{chance.randrange(9)}"'),
            (r'version = "[\d.]+"', f'version = "1.{chance.randrange(9)}.0"'),
            (
                r"ignore = \[.*\]",
                chance.choice(['ignore = ["*.tmp"]', 'ignore = ["*.tmp", "sub/"]', "ignore = []"]),
            ),
        ]
    )
    path.write_text(re.sub(old, new, text))
    return Edit(f"{new} in {path}", (name,), PLAN)


def comment(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = ground.folder / "packages" / name / "package.toml"
    path.write_text(f"{path.read_text().rstrip()}\n# {chance.random()}\n")
    return Edit(f"comment in {path}", (name,), frozenset({"render"}))


def requirement(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = ground.folder / "packages" / name / "requirements.txt"
    path.write_text(f"# {chance.random()}\n")
    return Edit(f"comment in {path}", (name,), frozenset({"lock", "render"}))


def train(ground: Ground, chance: random.Random, name: str) -> Edit:
    (ground.folder / "train.txt").write_text(_text(chance, 30))
    return Edit("another training", ("a",), BUILD, trains=True)


def _records(ground: Ground, name: str) -> list[Path]:
    """The package's files of records; none after an edit that removed them all."""
    return [path for path in sorted((ground.folder / ".mlpkg" / name).glob("*")) if path.is_file()]


def record(ground: Ground, chance: random.Random, name: str) -> Edit:
    """A record that is lost, torn, or another package's."""
    found = _records(ground, name)
    if not found:
        return content(ground, chance, name)
    path = chance.choice(found)
    data = path.read_bytes()
    other = ground.folder / ".mlpkg" / NAMES[1 - NAMES.index(name)] / path.name
    kind = chance.choice(["lost", "torn", "foreign"])
    if kind == "lost":
        path.unlink()
    elif kind == "foreign" and other.exists():
        shutil.copy(other, path)
    else:
        path.write_bytes(chance.choice([data[: len(data) // 2], b"[" * 5000, b"", b"null", data[::-1]]))
    return Edit(f"{kind} {path}", (name,), ALL)


def lost_state(ground: Ground, chance: random.Random, name: str) -> Edit:
    shutil.rmtree(ground.folder / ".mlpkg", ignore_errors=True)
    return Edit("no .mlpkg", NAMES, ALL)


def database(ground: Ground, chance: random.Random, name: str) -> Edit:
    path = ground.folder / ".doit.sqlite"
    if chance.random() < 0.5:
        path.unlink(missing_ok=True)
        return Edit("no doit database", NAMES, ALL, trains=True)
    if path.exists():
        path.write_bytes(b"damaged" + path.read_bytes()[7:])
    return Edit("a damaged doit database", NAMES, ALL, trains=True)


EDITORS: tuple[Editor, ...] = (
    content, content, same_size, same_size, touch, rename, swap, mode, link, add, remove, key, comment,
    requirement, train, record, record, record, lost_state, database,
)  # fmt: skip


def edit(ground: Ground, chance: random.Random) -> Edit:
    """Do one edit."""
    return chance.choice(EDITORS)(ground, chance, chance.choice(NAMES))
