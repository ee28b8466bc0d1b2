"""package.lock: stable text, every value checked on the way in."""

from __future__ import annotations

import json

import pytest

from mlpkg import lockfile
from tests.plan.test_plan import LOCK


def test_a_lock_survives_its_text_and_is_stable() -> None:
    text = lockfile.to_text(LOCK)
    assert lockfile.from_text(text) == LOCK
    assert lockfile.to_text(lockfile.from_text(text)) == text
    assert "://" not in text
    # one package a line, so that a diff shows what moved
    assert sum('"filename"' in line for line in text.splitlines()) == 4


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("inputs",), "sha256:short"),
        (("base", 0, "digest"), "md5:00"),
        (("base", 0, "size"), -1),
        (("base", 0, "size"), True),
        (("base", 0, "filename"), "../../etc/passwd"),
        (("base", 0, "filename"), "/etc/passwd"),
        (("wheels", 0, "name"), 7),
        (("wheels", 0, "filename"), "a\nb"),
        (("layers", 0, "digest"), None),
        (("layers",), 3),
        (("suite",), None),
    ],
)
def test_what_came_from_a_file_is_checked(path: tuple[str | int, ...], value: object) -> None:
    document = json.loads(lockfile.to_text(LOCK))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r"package\.lock|digest"):
        lockfile.from_text(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "<<<<<<< HEAD\n{}\n", '"text"'])
def test_no_lock_at_all(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        lockfile.from_text(text)
