from __future__ import annotations

import base64
import csv
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mlpkg.errors import DigestMismatch, LockError, MlpkgError, Unreachable
from mlpkg.layer import Entry, tar_stream
from mlpkg.lockfile import Wheel
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.entries import environment_entries
from mlpkg.wheels.install import install_wheels
from mlpkg.wheels.installed import take_owners_files
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target

from .wheelhouse import make_wheel

TRIXIE = Target("3.13", "linux/amd64", "2.41")
SITE = "usr/local/lib/python3.13/dist-packages"


def locked(sources: WheelSources, *names: str) -> tuple[Wheel, ...]:
    return choose_wheels(
        read_requirements(names, folder=Path("/nonexistent")), target=TRIXIE, sources=sources
    )


def installed(sources: WheelSources, tree: Path, *names: str) -> Path:
    install_wheels(locked(sources, *names), tree, target=TRIXIE, sources=sources)
    return tree


def content(entry: Entry) -> bytes:
    assert entry.content is not None
    return b"".join(entry.content.read())


def by_path(entries: Mapping[str, Sequence[Entry]]) -> dict[str, Entry]:
    return {entry.path: entry for rows in entries.values() for entry in rows}


def digest(entries: Mapping[str, Sequence[Entry]]) -> str:
    state = hashlib.sha256()
    for piece in tar_stream(entry for rows in entries.values() for entry in rows):
        state.update(piece)
    return state.hexdigest()


@pytest.fixture
def rich_house(house: Path) -> Path:
    """A wheel with everything that a wheel can hold, and a native one."""
    make_wheel(
        house,
        "rich-wheel",
        requires=["native"],
        scripts={"rich-run": "rich_wheel.cli:app.main"},
        files={
            "rich_wheel/cli.py": b"class app:\n    @staticmethod\n    def main():\n        print('ran')\n        return 3\n",
            "rich_wheel/__pycache__/cli.cpython-313.pyc": b"byte code",
            "rich_wheel.pth": b"",
            "rich_wheel/a,b.txt": b"comma",
            "rich_wheel-1.0.data/scripts/tool": b"#!python -I\nprint('tool')\n",
            "rich_wheel-1.0.data/scripts/tool.sh": b"#!/bin/sh\necho\n",
            "rich_wheel-1.0.data/scripts/env-tool": b"#!/usr/bin/env python3\nprint()\n",
            "rich_wheel-1.0.data/scripts/program": b"\x7fELF program",
            "rich_wheel-1.0.data/data/share/rich/data.txt": b"data",
            "rich_wheel-1.0.data/data/etc/rich.conf": b"conf",
            "rich_wheel-1.0.data/headers/rich.h": b"header",
            "rich_wheel-1.0.data/purelib/rich_pure.py": b"",
        },
    )
    make_wheel(house, "native", tag="cp313-cp313-manylinux_2_17_x86_64", files={"native/core.so": b"\x7fELF"})
    return house


@pytest.mark.usefixtures("rich_house")
def test_where_files_go(sources: WheelSources, tmp_path: Path) -> None:
    entries = environment_entries(installed(sources, tmp_path / "tree", "rich-wheel"), python="3.13")
    assert [entry.path for entry in entries["native"]] == [
        f"{SITE}/native-1.0.dist-info/METADATA",
        f"{SITE}/native-1.0.dist-info/RECORD",
        f"{SITE}/native-1.0.dist-info/WHEEL",
        f"{SITE}/native/__init__.py",
        f"{SITE}/native/core.so",
    ]
    assert [entry.path for entry in entries["rich-wheel"]] == sorted([
        "usr/local/bin/env-tool",
        "usr/local/bin/program",
        "usr/local/bin/rich-run",
        "usr/local/bin/tool",
        "usr/local/bin/tool.sh",
        "usr/local/etc/rich.conf",
        "usr/local/include/python3.13/rich-wheel/rich.h",
        *(f"{SITE}/rich_wheel-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
        f"{SITE}/rich_pure.py",
        f"{SITE}/rich_wheel.pth",
        *(f"{SITE}/rich_wheel/{name}" for name in ("__init__.py", "a,b.txt", "cli.py")),
        "usr/local/share/rich/data.txt",
    ])  # fmt: skip
    found = by_path(entries)
    executable = {path for path, entry in found.items() if entry.mode == 0o755}
    assert executable == {path for path in found if path.startswith("usr/local/bin/")} | {
        f"{SITE}/native/core.so"
    }
    assert {entry.mode for entry in found.values()} == {0o644, 0o755}
    assert content(found[f"{SITE}/rich_wheel/a,b.txt"]) == b"comma"


@pytest.mark.usefixtures("rich_house")
def test_scripts_use_the_images_python(sources: WheelSources, tmp_path: Path) -> None:
    tree = installed(sources, tmp_path / "tree", "rich-wheel")
    found = by_path(environment_entries(tree, python="3.13"))
    assert content(found["usr/local/bin/tool"]) == b"#!/usr/bin/python3\nprint('tool')\n"
    assert content(found["usr/local/bin/tool.sh"]) == b"#!/bin/sh\necho\n"
    assert content(found["usr/local/bin/env-tool"]) == b"#!/usr/bin/env python3\nprint()\n"
    assert content(found["usr/local/bin/program"]) == b"\x7fELF program"
    script = tmp_path / "rich-run"
    script.write_bytes(content(found["usr/local/bin/rich-run"]))
    assert script.read_text().startswith("#!/usr/bin/python3\n")
    site = next(tree.glob("lib*/python*/site-packages"))
    ran = subprocess.run(
        [sys.executable, "-B", script],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (3, "ran\n")


@pytest.mark.usefixtures("rich_house")
def test_record_lists_what_ships_and_nothing_else(sources: WheelSources, tmp_path: Path) -> None:
    found = by_path(environment_entries(installed(sources, tmp_path / "tree", "rich-wheel"), python="3.13"))
    text = content(found[f"{SITE}/rich_wheel-1.0.dist-info/RECORD"]).decode()
    lines = [(path, noted) for path, noted, _size in csv.reader(text.splitlines())]
    assert lines == sorted(lines)
    assert [path for path, noted in lines if not noted] == ["rich_wheel-1.0.dist-info/RECORD"]
    for path, _noted in lines:
        shipped = path.replace("../../../", "usr/local/") if path.startswith("..") else f"{SITE}/{path}"
        assert shipped in found
    native = [path for path in found if path.startswith(f"{SITE}/native")]
    assert len(lines) == len(found) - len(native)


@pytest.mark.usefixtures("rich_house")
def test_record_has_the_digest_of_what_ships(sources: WheelSources, tmp_path: Path) -> None:
    found = by_path(environment_entries(installed(sources, tmp_path / "tree", "rich-wheel"), python="3.13"))
    lines = content(found[f"{SITE}/rich_wheel-1.0.dist-info/RECORD"]).decode().splitlines()
    noted = {line.split(",")[0]: line.split(",")[1:] for line in lines}
    for path in ("../../../bin/tool", "../../../bin/rich-run", "../../../share/rich/data.txt"):
        data = content(found[path.replace("../../../", "usr/local/")])
        encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert noted[path] == [f"sha256={encoded}", str(len(data))]


@pytest.mark.usefixtures("rich_house")
def test_nothing_of_this_machine_gets_in(sources: WheelSources, tmp_path: Path) -> None:
    """Two trees in different folders, one as another Python's installer would lay it out, give one digest."""
    first = installed(sources, tmp_path / "one" / "tree", "rich-wheel")
    second = installed(sources, tmp_path / "another place" / "tree", "rich-wheel")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (second / "lib" / version).rename(second / "lib" / "python3.99")
    (second / "include" / "site" / version).rename(second / "include" / "site" / "python3.99")
    record = second / "lib" / "python3.99" / "site-packages" / "rich_wheel-1.0.dist-info" / "RECORD"
    lines = reversed(record.read_text().replace(version, "python3.99").splitlines())
    record.unlink()
    record.write_text("".join(f"{line}\n" for line in lines))
    long = second / "bin" / "tool"
    long.unlink()
    long.write_bytes(b"#!/bin/sh\n'''exec' '/a long/path/python' \"$0\" \"$@\"\n' '''\nprint('tool')\n")
    entries = environment_entries(first, python="3.13")
    assert digest(entries) == digest(environment_entries(second, python="3.13"))
    stream = b"".join(tar_stream(by_path(entries).values()))
    for part in (sys.executable, sys.prefix, str(tmp_path), "INSTALLER", "uv_cache", "__pycache__"):
        assert part.encode() not in stream
    if version != "python3.13":  # the image's own
        assert version.encode() not in stream


def test_an_empty_lock_makes_an_empty_tree(sources: WheelSources, tmp_path: Path) -> None:
    install_wheels((), tmp_path / "tree", target=TRIXIE, sources=sources)
    assert list((tmp_path / "tree").iterdir()) == []
    assert environment_entries(tmp_path / "tree", python="3.13") == {}


def test_every_locked_wheel_has_its_entries(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    for name in ("Some.Name", "zeta", "alpha"):
        make_wheel(house, name)
    wheels = locked(sources, "some-name", "zeta", "alpha")
    install_wheels(wheels, tmp_path / "tree", target=TRIXIE, sources=sources)
    entries = environment_entries(tmp_path / "tree", python="3.13")
    assert list(entries) == [wheel.name for wheel in wheels] == ["alpha", "some-name", "zeta"]


def test_one_path_of_two_distributions(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    make_wheel(house, "one", files={"shared/__init__.py": b"", "shared/one.py": b""})
    make_wheel(house, "two", files={"shared/__init__.py": b"", "shared/two.py": b""})
    entries = environment_entries(installed(sources, tmp_path / "same", "one", "two"), python="3.13")
    assert [
        name for name, rows in entries.items() if f"{SITE}/shared/__init__.py" in {row.path for row in rows}
    ] == ["one"]
    assert b"shared/__init__.py" not in content(by_path(entries)[f"{SITE}/two-1.0.dist-info/RECORD"])


CLASHING = {
    "one": {"tests/__init__.py": b"of one", "cv/a.so": b"1", "cv/same.py": b"same", "cv/one.py": b""},
    "two": {"tests/__init__.py": b"of two", "cv/a.so": b"2", "cv/same.py": b"same", "Tests/__init__.py": b""},
    "three": {"tests/__init__.py": b"of three", "three-1.0.data/data/share/x": b"3"},
    "zwei": {"zwei-1.0.data/scripts/run": b"#!python\nprint('zwei')\n", "zwei-1.0.data/data/share/x": b"z"},
}


@pytest.fixture
def clashing_house(house: Path) -> Path:
    """Wheels that hold some of their files together: libraries, a package of tests, a script, a data file."""
    for name, files in CLASHING.items():
        make_wheel(house, name, files=files, scripts={"run": "one:run"} if name == "one" else None)
    return house


def winners(entries: Mapping[str, Sequence[Entry]], *paths: str) -> dict[str, tuple[str, bytes]]:
    """Whose each of these files is, and its bytes; a path stands for one owner only."""
    rows = [(entry.path, name, content(entry)) for name, found in entries.items() for entry in found]
    assert len({path for path, _name, _data in rows}) == len(rows)
    return {path: (name, data) for path, name, data in rows if path in paths}


@pytest.mark.usefixtures("clashing_house")
def test_of_different_files_the_last_name_wins(sources: WheelSources, tmp_path: Path) -> None:
    said: list[str] = []
    wheels = locked(sources, *CLASHING)
    install_wheels(wheels, tmp_path / "tree", target=TRIXIE, sources=sources, notify=said.append)
    assert [path.name for path in tmp_path.iterdir() if "tree" in path.name or ".mlpkg" in path.name] == [
        "tree"
    ]
    entries = environment_entries(tmp_path / "tree", python="3.13")
    cv, run, data = f"{SITE}/cv", "usr/local/bin/run", "usr/local/share/x"
    paths = (f"{SITE}/tests/__init__.py", f"{cv}/a.so", f"{cv}/same.py", f"{SITE}/Tests/__init__.py")
    assert winners(entries, *paths, run, data) == {
        f"{SITE}/tests/__init__.py": ("two", b"of two"),
        f"{cv}/a.so": ("two", b"2"),
        f"{cv}/same.py": ("one", b"same"),
        f"{SITE}/Tests/__init__.py": ("two", b""),
        run: ("zwei", b"#!/usr/bin/python3\nprint('zwei')\n"),
        data: ("zwei", b"z"),
    }
    assert said == [
        "one, three and two hold different files of one name, two's are used: tests/__init__.py",
        "one and two hold different files of one name, two's are used: cv/a.so",
        "one and zwei hold different files of one name, zwei's are used: bin/run",
        "three and zwei hold different files of one name, zwei's are used: share/x",
    ]
    loser = content(by_path(entries)[f"{SITE}/one-1.0.dist-info/RECORD"])
    assert b"cv/same.py" in loser
    assert not any(text in loser for text in (b"tests/__init__.py", b"cv/a.so", b"bin/run"))


@pytest.mark.usefixtures("clashing_house")
def test_clashing_wheels_always_give_one_digest(sources: WheelSources, tmp_path: Path) -> None:
    wheels = locked(sources, *CLASHING)
    found: set[str] = set()
    for number in range(10):
        tree = tmp_path / str(number) / "tree"
        install_wheels(wheels, tree, target=TRIXIE, sources=sources)
        found.add(digest(environment_entries(tree, python="3.13")))
    assert len(found) == 1


def test_many_clashes_are_one_notice(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_wheel(house, name, files={f"cv/{number}.py": name.encode() for number in range(9)})
    said: list[str] = []
    wheels = locked(sources, "one", "two")
    install_wheels(wheels, tmp_path / "tree", target=TRIXIE, sources=sources, notify=said.append)
    assert said == [
        "one and two hold different files of one name, two's are used: cv/0.py, cv/1.py, cv/2.py and 6 more"
    ]


def test_whoever_uv_installs_last_the_owners_file_is_taken(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    """Each holder's bytes in turn are left by a first installation; the mode counts where bytes are equal."""
    make_wheel(house, "one", files={"x/a.py": b"1", "x/same.sh": b"same"})
    make_wheel(house, "two", files={"x/a.py": b"2", "x/same.sh": b"same"})
    one, two = locked(sources, "one", "two")
    trees = {}
    for name, wheel in (("one", one), ("two", two)):
        install_wheels([wheel], tmp_path / f"{name} alone", target=TRIXIE, sources=sources)
        trees[name] = tmp_path / f"{name} alone"
    for last in ("one", "two"):
        first = "two" if last == "one" else "one"
        tree = tmp_path / f"{last} last"
        shutil.copytree(trees[first], tree)
        shutil.copytree(trees[last], tree, dirs_exist_ok=True)
        site = next(tree.glob("lib/python*/site-packages"))
        if last == "two":
            (site / "x" / "same.sh").chmod(0o755)

        def alone(name: str, last: str = last) -> Path:
            return Path(shutil.copytree(trees[name], tmp_path / f"{name} for {last}"))

        assert len(take_owners_files(tree, alone)) == 1
        assert (site / "x" / "a.py").read_bytes() == b"2"
        assert (site / "x" / "same.sh").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stray.py=", "stray.py: belongs to no installed package"),
        ("alpha/__init__.py", "__init__.py: is missing"),
        ("alpha/link.py->/etc/passwd", "link.py: is a link"),
        ("alpha-1.0.dist-info/RECORD", "has no list of its files"),
        ("alpha-1.0.dist-info/RECORD=../../../../../etc/x,,", "leaves the environment"),
        ("alpha-1.0.dist-info/RECORD=/etc/x,,", "leaves the environment"),
        ("alpha-1.0.dist-info/RECORD=alpha/__init__.py", "its RECORD is torn"),
    ],
)
def test_a_tree_that_was_meddled_with_is_refused(
    house: Path, sources: WheelSources, tmp_path: Path, change: str, message: str
) -> None:
    """`change` removes a file, or replaces it by a text or a link."""
    make_wheel(house, "alpha")
    tree = installed(sources, tmp_path / "tree", "alpha")
    site = next(tree.glob("lib*/python*/site-packages"))
    path, written, text = change.partition("=")
    path, linked, target = path.partition("->")
    (site / path).unlink(missing_ok=True)
    if written:
        (site / path).write_text(text)
    if linked:
        (site / path).symlink_to(target)
    with pytest.raises(LockError, match=message):
        environment_entries(tree, python="3.13")


def test_a_wheel_with_other_bytes_is_not_installed(
    house: Path, sources: WheelSources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(house, "alpha")
    wheels = locked(sources, "alpha")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache-of-another-machine"))
    make_wheel(house, "alpha", files={"alpha/evil.py": b""})
    with pytest.raises(DigestMismatch, match="not the one that was locked"):
        install_wheels(wheels, tmp_path / "made" / "tree", target=TRIXIE, sources=sources)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_vanished_wheel_says_to_lock_again(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    path = make_wheel(house, "alpha", "1.0")
    wheels = locked(sources, "alpha")
    path.unlink()
    make_wheel(house, "alpha", "2.0")
    with pytest.raises(LockError, match="cannot be installed for linux/amd64") as caught:
        install_wheels(wheels, tmp_path / "tree", target=TRIXIE, sources=sources)
    assert "mlpkg lock --upgrade" in caught.value.hint
    assert not (tmp_path / "tree").exists()


def test_an_index_that_does_not_answer_is_unreachable(
    house: Path, sources: WheelSources, tmp_path: Path
) -> None:
    make_wheel(house, "alpha")
    wheels = locked(sources, "alpha")
    gone = WheelSources(index="http://me:hidden@127.0.0.1:1/simple/")
    with pytest.raises(Unreachable) as caught:
        install_wheels(wheels, tmp_path / "tree", target=TRIXIE, sources=gone)
    assert "hidden" not in str(caught.value)


def test_a_tree_is_not_installed_over(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    make_wheel(house, "alpha")
    installed(sources, tmp_path / "tree", "alpha")
    with pytest.raises(MlpkgError, match="already there"):
        installed(sources, tmp_path / "tree", "alpha")


def test_code_of_a_wheel_is_not_run(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    make_wheel(
        house, "alpha", files={"alpha.pth": f"import pathlib; pathlib.Path({str(trap)!r}).touch()\n".encode()}
    )
    environment_entries(installed(sources, tmp_path / "tree", "alpha"), python="3.13")
    assert not trap.exists()
