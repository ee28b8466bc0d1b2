"""doit's database holds nothing that a package is made of: damaged, missing or not writable, it stops nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlpkg.tasks import database

from .place import Place

TASKS = """
from mlpkg.tasks import *

def task_own():
    return {"actions": ["echo own >> ran"], "file_dep": ["a"]}

DOIT_CONFIG = {**DOIT_CONFIG, "backend": "BACKEND", "dep_file": "kept.db"}
"""

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "head": lambda data: b"junk" * 5 + data[20:],
    "zeros": lambda data: bytes(len(data)),
    "middle": lambda data: data[: len(data) // 3] + b"\xff" * (len(data) // 3) + data[2 * (len(data) // 3) :],
    "text": lambda data: b"[" * 5000,
    "other": lambda data: b'["a list"]',
    "shape": lambda data: b'{"own": 5}',
}


@pytest.fixture
def plain(environ: dict[str, str], tmp_path: Path) -> Place:
    """A workspace without packages that were built: nothing here needs a mirror."""
    place = Place(tmp_path / "w", environ)
    place.write("mlpkg.toml", "")
    place.package()
    place.write("a", "one")
    return place


@pytest.mark.parametrize("backend", ["sqlite3", "json", "dbm"])
@pytest.mark.long
def test_a_damaged_database_is_set_aside(plain: Place, backend: str) -> None:
    plain.write("dodo.py", TASKS.replace("BACKEND", backend))
    assert plain.doit("own").done == ["own"]
    assert plain.doit("own").done == []
    whole = {path: path.read_bytes() for path in plain.folder.glob("kept.db*")}
    assert whole
    commands: dict[str, tuple[str, ...]] = {
        "text": ("list", "-s"),
        "other": ("forget", "own"),
        "shape": ("clean", "own"),
    }
    for name, damage in DAMAGES.items():
        for path, data in whole.items():
            path.write_bytes(damage(data))
        ended = plain.doit(*commands.get(name, ("own",)))
        assert ended.code == 0, name
        if name in ("text", "other"):
            assert "is damaged" in ended.err
            assert list(plain.folder.glob("kept.db*.damaged"))
        plain.doit("own")
        assert plain.doit("own").done == [], name


@pytest.mark.parametrize("backend", ["sqlite3", "json", "dbm"])
@pytest.mark.long
def test_what_doit_keeps_can_be_shown(plain: Place, backend: str) -> None:
    plain.write("dodo.py", TASKS.replace("BACKEND", backend))
    assert "nothing is kept yet" in plain.doit("dumpdb").out
    plain.doit("own")
    assert "own -> {" in plain.doit("dumpdb").out
    for path in plain.folder.glob("kept.db*"):
        path.write_bytes(b"junk" * 10)
    assert "is damaged" in plain.doit("dumpdb", code=3).err
    (plain.folder / "dodo.py").unlink()
    assert plain.doit("dumpdb").code == 0


def test_a_file_of_tasks_may_have_another_name(plain: Place) -> None:
    plain.write("other.py", TASKS.replace("BACKEND", "json"))
    plain.doit("-f", "other.py", "own")
    plain.write("kept.db", "junk")
    assert "is damaged" in plain.doit("-f", "other.py", "own").err


@pytest.mark.parametrize("kept", ["not json", '["a list"]', '{"own": 5}', "[" * 5000, "5"])
@pytest.mark.long
def test_a_damaged_row_makes_its_task_run_again(plain: Place, kept: str) -> None:
    import sqlite3

    plain.write("dodo.py", TASKS.replace("BACKEND", "sqlite3"))
    plain.doit("own")
    connection = sqlite3.connect(plain.folder / "kept.db")
    connection.execute("update doit set task_data = ?", (kept,))
    connection.commit()
    connection.close()
    assert plain.doit("own").done == ["own"]
    assert plain.doit("own").done == []


def test_a_folder_in_its_place_is_set_aside(plain: Place) -> None:
    plain.write("dodo.py", TASKS.replace("BACKEND", "sqlite3"))
    (plain.folder / "kept.db").mkdir()
    assert plain.doit("own").done == ["own"]
    assert (plain.folder / "kept.db.damaged").is_dir()


def test_a_locked_database_is_not_damaged(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "x.db"
    database.require_usable("sqlite3", path)
    other = sqlite3.connect(path)
    other.execute("begin immediate")
    database.require_usable("sqlite3", path)
    other.close()
    assert not list(tmp_path.glob("*.damaged"))


@pytest.fixture
def small(environ: dict[str, str], tmp_path: Path) -> Iterator[Place]:
    """A workspace on a disk of its own with 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "t", folder], check=False).returncode
    ):
        pytest.skip("cannot mount a small disk here")
    try:
        place = Place(folder, environ)
        place.write("mlpkg.toml", "")
        place.package()
        place.write("a", "one")
        yield place
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("backend", ["sqlite3", "json", "dbm"])
@pytest.mark.parametrize("kept", ["kept", "new"])
@pytest.mark.long
def test_a_full_disk_is_told_plainly(small: Place, backend: str, kept: str) -> None:
    tasks = TASKS.replace("BACKEND", backend).replace("echo own >> ran", "cat /dev/zero > filler; true")
    more = 'def task_many():\n    for n in range(300):\n        yield {"name": str(n), "actions": [], "file_dep": ["a"]}\n'
    small.write("dodo.py", tasks + more)
    if kept == "kept":
        small.write("dodo.py", tasks.replace("cat /dev/zero > filler; ", "") + more)
        small.doit("own")
        small.write("dodo.py", tasks + more)
        small.write("a", "two")
        before = {path: path.read_bytes() for path in small.folder.glob("kept.db*")}
    else:
        before = {}
    ended = small.doit("own", "many", code=None)
    assert ended.code == 1, ended.text
    assert "kept.db" in ended.err
    assert "make room" in ended.err
    (small.folder / "filler").unlink()
    if backend == "json":
        assert {path: path.read_bytes() for path in before} == before, "nothing that was kept is lost"
    small.write("dodo.py", TASKS.replace("BACKEND", backend))
    small.doit("own")
    assert small.doit("own").done == []


def test_a_workspace_that_cannot_be_written_is_told_plainly(small: Place) -> None:
    for backend in ("sqlite3", "json", "dbm"):
        small.write("dodo.py", TASKS.replace("BACKEND", backend).replace("kept.db", f"kept-{backend}"))
        subprocess.run(["mount", "-o", "remount,ro", small.folder], check=True)
        try:
            ended = small.doit("own", code=None)
            assert ended.code in (1, 2), ended.text
            assert "writable" in ended.err
            if backend == "sqlite3":
                verb = small.mlpkg("build", "p", code=None)
                assert verb.code in (1, 2)
                assert "writable" in verb.err
        finally:
            subprocess.run(["mount", "-o", "remount,rw", small.folder], check=True)
        assert small.doit("own").done == ["own"]


@pytest.mark.mirror
@pytest.mark.long
def test_a_full_disk_during_a_step_loses_nothing(lock: Path, small: Place) -> None:
    shutil.copy(lock, small.folder / "packages/p/package.lock")
    small.write("dodo.py", "from mlpkg.tasks import *\n")
    small.doit("build")
    digest = small.digest()
    small.write("packages/p/model/weights", "other")
    filler = small.folder / "filler"
    subprocess.run(f"cat /dev/zero > {filler}", shell=True, check=False, stderr=subprocess.DEVNULL)
    ended = small.doit("build", code=1)
    assert "No space left" in ended.text or "full" in ended.text
    assert small.digest() == digest, "the last record stands"
    filler.unlink()
    small.doit("build")
    assert small.digest() != digest
    assert small.doit("build").done == []


SLOW = """
import os, time
from mlpkg.tasks import *

def wait():
    open("waiting", "w").close()
    time.sleep(60)

def task_own():
    return {"actions": ["echo own >> ran"], "file_dep": ["a"]}

def task_waits():
    return {"actions": [wait], "task_dep": ["own"]}
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=str)
@pytest.mark.parametrize("signals", ["INT", "TERM", "INT INT", "TERM INT", "TERM TERM", "INT TERM INT INT"])
@pytest.mark.long
def test_signals_end_a_run_in_order(plain: Place, signals: str, workers: tuple[str, ...]) -> None:
    """No traceback, exit 130, and what was done is kept: also where the second signal comes at once."""
    plain.write("dodo.py", SLOW)
    process = plain.start("doit", *workers, "waits", start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (plain.folder / "waiting").exists() and time.monotonic() < end:
            time.sleep(0.02)
        for name in signals.split():
            os.killpg(process.pid, getattr(signal, f"SIG{name}"))
            time.sleep(0.01)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in out + err, err
    assert process.returncode == 130
    assert "interrupted; what was done is kept" in err
    assert plain.doit("own").done == []


def test_signals_end_a_verb_in_order(plain: Place) -> None:
    tasks = (
        SLOW
        + '\ndef task_model():\n    return {"actions": [wait], "targets": ["packages/p/model/weights"]}\n'
    )
    plain.write("dodo.py", tasks)
    for verb in (("push", "p"), ("run", "p")):
        (plain.folder / "waiting").unlink(missing_ok=True)
        process = plain.start("mlpkg", *verb, start_new_session=True)
        try:
            end = time.monotonic() + 60
            while not (plain.folder / "waiting").exists() and time.monotonic() < end:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert "Traceback" not in out + err, err
        assert process.returncode == 130
        assert "interrupted; what was done is kept" in err
