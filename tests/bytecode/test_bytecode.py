"""Compiled files: made by real Pythons from the machine's mirror, loaded by them, and the same however made."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlpkg import debian
from mlpkg.bytecode import Interpreter, compile_files, interpreter, layer_bytecode, wheel_bytecode
from mlpkg.bytecode.compiled import is_compiled
from mlpkg.digest import sha256
from mlpkg.errors import LockError, MlpkgError, Unreachable
from mlpkg.layer import Bytes, Content, Entry, SourceFile, tar_stream
from mlpkg.spec.model import DebianTable

MACHINES = {"x86_64": ("amd64", "arm64"), "aarch64": ("arm64", "amd64")}
OWN, OTHER = (f"linux/{name}" for name in MACHINES.get(platform.machine(), ("amd64", "arm64")))

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="Debian's Python does not run here"
)


@dataclass(frozen=True, slots=True)
class Base:
    """A suite's base layer as a file, its Python, and the cache that it was unpacked into."""

    layer: Path
    python: str
    cache: Path
    found: Interpreter


@pytest.fixture(scope="session", params=debian.SUITES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    suite: str = request.param
    folder = tmp_path_factory.mktemp(f"bytecode-{suite}")
    try:
        mirrors = debian.choose_mirrors(DebianTable())
        index = debian.load_index(mirrors, suite, OWN.removeprefix("linux/"), folder / "debs")
    except (LockError, Unreachable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Debian mirror here: {error.message}")
    debs = debian.resolve(index, debian.base_packages(suite, with_python=True))
    paths = debian.fetch_debs(mirrors, debs, folder / "debs")
    layer = folder / "base.tar"
    with layer.open("wb") as file:
        file.writelines(tar_stream(debian.layer_entries(list(zip(debs, paths, strict=True)), suite=suite)))
    python = debian.python_version(suite)
    found = interpreter(layer, python=python, platform=OWN, cache=folder / "cache")
    assert found is not None
    return Base(layer, python, folder / "cache", found)


def site(base: Base, name: str) -> str:
    return f"usr/local/lib/python{base.python}/dist-packages/{name}"


def pyc(base: Base, name: str) -> str:
    folder, _, module = site(base, name).rpartition("/")
    return f"{folder}/__pycache__/{module.removesuffix('.py')}.{base.found.cache_tag}.pyc"


def written(folder: Path, files: Mapping[str, str]) -> dict[str, Path]:
    """Files by image path, each lying in the folder under a name of no meaning."""
    folder.mkdir()
    found = {}
    for number, (path, text) in enumerate(files.items()):
        found[path] = folder / f"{number}.txt"
        found[path].write_text(text)
    return found


def data(content: Content | None) -> bytes:
    assert content is not None
    return b"".join(content.read())


def digests(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry.path: sha256(data(entry.content)) for entry in entries}


def answer(base: Base, code: str, *places: Path) -> str:
    """What the image's Python says, with folders to import from."""
    program = "import sys; sys.path[:0] = sys.argv[1:]\n" + code
    done = subprocess.run(
        base.found.command(["-c", program, *map(str, places)]),
        env=base.found.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@linux
@pytest.mark.mirror
@pytest.mark.long
def test_the_image_s_python_loads_what_was_compiled_and_asks_no_source(base: Base, tmp_path: Path) -> None:
    source = "def where():\n    return where.__code__.co_filename\nANSWER = 42\n"
    path = site(base, "thing/part.py")
    made = compile_files(base.found, written(tmp_path / "s", {path: source}), cache=tmp_path / "cache")
    assert list(made) == [pyc(base, "thing/part.py")]
    folder = tmp_path / "site" / "thing"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / f"part.{base.found.cache_tag}.pyc").write_bytes(
        data(made[pyc(base, "thing/part.py")])
    )
    # Neither a changed time nor a changed text counts: the .pyc says so itself (PEP 552).
    (folder / "part.py").write_text(source.replace("42", "0"))
    os.utime(folder / "part.py", (1, 1))
    assert answer(base, "import thing.part as p; print(p.ANSWER, p.__cached__)", folder.parent).startswith(
        "42 /"
    )


@linux
@pytest.mark.mirror
def test_tracebacks_name_the_image_s_path(base: Base, tmp_path: Path) -> None:
    path = site(base, "naïve/part.py")
    made = compile_files(
        base.found, written(tmp_path / "s", {path: "def f(): 1 / 0\n"}), cache=tmp_path / "cache"
    )
    compiled = tmp_path / "compiled"
    compiled.write_bytes(data(made[pyc(base, "naïve/part.py")]))
    read = "import marshal; code = marshal.loads(open(sys.argv[1], 'rb').read()[16:])\n"
    inner = "next(c for c in code.co_consts if hasattr(c, 'co_code'))"
    shown = answer(base, f"{read}print(code.co_filename, {inner}.co_filename)", compiled)
    assert shown == f"/{path} /{path}"
    assert compiled.read_bytes()[4:8] == b"\1\0\0\0"
    for place in (base.cache, tmp_path, Path(__file__).parents[2]):
        assert os.fsencode(place) not in compiled.read_bytes()


SHARED = """
def one(x):
    if x in {"zeta_one", "zeta_two"}:
        return (t for t in x if t in {"zeta_one", "zeta_two"})
"""
DIFFERS = f"""
from marshal import dumps
text = {SHARED!r}
first = dumps(compile(text, "x", "exec"))
kept = compile("zeta_one, zeta_two", "y", "exec")
print(first != dumps(compile(text, "x", "exec")))
"""


@linux
@pytest.mark.mirror
def test_what_was_compiled_before_does_not_show(base: Base, tmp_path: Path) -> None:
    """This very source gives other bytes in a process that has the name `zeta_one` already."""
    shared, before = site(base, "m/shared.py"), site(base, "a/before.py")
    files = written(tmp_path / "s", {before: "zeta_one = zeta_two\n", shared: SHARED})
    alone = compile_files(base.found, {shared: files[shared]}, cache=tmp_path / "cache")
    after = compile_files(base.found, files, cache=tmp_path / "cache")
    assert len(after) == 2
    assert data(after[pyc(base, "m/shared.py")]) == data(alone[pyc(base, "m/shared.py")])
    assert answer(base, DIFFERS) == "True"


ELSEWHERE = """
import os, sys
from pathlib import Path
from mlpkg.bytecode import interpreter, layer_bytecode
from mlpkg.digest import sha256
layer, python, platform, cache = sys.argv[1:]
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
found = interpreter(Path(layer), python=python, platform=platform, cache=Path(cache))
for entry in layer_bytecode(found, [Path(layer)], cache=Path(cache)):
    print(entry.path, sha256(b"".join(entry.content.read())))
"""


@linux
@pytest.mark.mirror
@pytest.mark.long
def test_the_library_is_the_same_wherever_it_is_compiled(base: Base, tmp_path: Path) -> None:
    """Again with one process instead of several, another folder, and a user's settings that could matter."""
    here = layer_bytecode(base.found, [base.layer], cache=base.cache)
    settings = {
        "HOME": "/nonexistent", "LC_ALL": "POSIX", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "77",
        "PYTHONOPTIMIZE": "2", "PYTHONNODEBUGRANGES": "1", "PYTHONWARNINGS": "ignore", "LD_LIBRARY_PATH": "/tmp",
        "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"],
    }  # fmt: skip
    place = tmp_path / "another place"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, base.layer, base.python, OWN, place],
        env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    there = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert len(there) > 400
    assert digests(here) == there
    assert [entry.path for entry in here] == sorted(there)


@linux
@pytest.mark.mirror
def test_the_library_that_was_compiled_is_what_starts(base: Base, tmp_path: Path) -> None:
    for entry in layer_bytecode(base.found, [base.layer], cache=base.cache):
        (tmp_path / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry.path).write_bytes(data(entry.content))
    code = """
import importlib.machinery, importlib.util, pathlib, sys
names = ["json", "asyncio", "email.message", "http.client", "unittest", "xml.etree.ElementTree"]
for name in names:
    path = pathlib.Path(importlib.util.find_spec(name).origin)
    below = path.relative_to(sys.prefix)
    held = pathlib.Path(sys.argv[1], "usr", below.parent, "__pycache__", f"{path.stem}.{sys.implementation.cache_tag}.pyc")
    loader = importlib.machinery.SourcelessFileLoader(name, str(held))
    assert loader.get_code(name).co_filename == f"/usr/{below}", name
print(len(names))
"""
    assert answer(base, code, tmp_path) == "6"


@linux
@pytest.mark.mirror
def test_what_does_not_compile_has_no_pyc_and_stops_nothing(base: Base, tmp_path: Path) -> None:
    sources = {
        "a/two.py": "print 'Python 2'\n",
        "a/nul.py": "x = '\0'\n",
        "a/deep.py": "(" * 300 + ")" * 300,
        "a/long.py": "x = " + "+".join(["y"] * 100_000),
        "a/cookie.py": "# -*- coding: no-such-encoding -*-\n",
        "a/warns.py": "x = '\\d'\n",
        "a/empty.py": "",
    }
    files = written(tmp_path / "s", {site(base, name): text for name, text in sources.items()})
    made = compile_files(base.found, files, cache=tmp_path / "cache")
    assert set(made) == {pyc(base, "a/warns.py"), pyc(base, "a/empty.py")}
    assert compile_files(base.found, files, cache=tmp_path / "cache") == made


@linux
@pytest.mark.mirror
def test_wheels_get_theirs_but_not_their_tests(base: Base, tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("x = 1\n")
    on_disk = SourceFile(source, source.stat().st_size)
    entries = [
        Entry("usr/local/bin/thing", mode=0o755, content=Bytes(b"#!/usr/bin/python3\n")),
        Entry(site(base, "thing"), "directory", 0o755),
        Entry(site(base, "thing/__init__.py"), content=on_disk),
        Entry(site(base, "thing/data.txt"), content=on_disk),
        Entry(site(base, "thing/made.py"), content=Bytes(b"y = 2\n")),
        Entry(site(base, "thing/tests/test_it.py"), content=on_disk),
        Entry(site(base, "thing-1.0.dist-info/odd.py"), content=on_disk),
    ]
    made = wheel_bytecode(base.found, entries, cache=tmp_path / "cache")
    assert [entry.path for entry in made] == [pyc(base, "thing/__init__.py"), pyc(base, "thing/made.py")]
    assert {entry.mode for entry in made} == {0o644}
    assert b"y" in data(made[1].content)
    already = [*entries, Entry(pyc(base, "thing/made.py"), content=Bytes(b"its own"))]
    assert len(wheel_bytecode(base.found, already, cache=tmp_path / "cache")) == 1


@linux
@pytest.mark.mirror
def test_it_is_compiled_once_and_again_where_the_cache_is_damaged(base: Base, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    files = written(tmp_path / "s", {site(base, "a.py"): "x = 1\n", site(base, "b.py"): "y = 2\n"})
    first = compile_files(base.found, files, cache=cache)
    wanted = {path: data(content) for path, content in first.items()}
    packs = list((cache / "bytecode" / "sha256").iterdir())
    stamp = packs[0].stat().st_mtime_ns
    assert compile_files(base.found, files, cache=cache) == first
    assert packs[0].stat().st_mtime_ns == stamp
    packs[0].write_bytes(bytes(packs[0].stat().st_size))
    again = compile_files(base.found, files, cache=cache)
    assert {path: data(content) for path, content in again.items()} == wanted
    for index in (cache / "bytecode").glob("*.json"):
        index.write_bytes(b'{"pack": "')
    assert compile_files(base.found, files, cache=cache) == first
    files[site(base, "a.py")].write_text("x = 3\n")
    changed = compile_files(base.found, files, cache=cache)
    assert data(changed[pyc(base, "a.py")]) != wanted[pyc(base, "a.py")]
    assert data(changed[pyc(base, "b.py")]) == wanted[pyc(base, "b.py")]


@linux
@pytest.mark.mirror
def test_a_source_that_cannot_be_read_is_an_error_and_leaves_nothing(base: Base, tmp_path: Path) -> None:
    files = written(tmp_path / "s", {site(base, "a.py"): "x = 1\n"})
    folder = tmp_path / "cache" / "bytecode"
    folder.mkdir(parents=True)
    broken = Interpreter(base.found.root / "nowhere", base.found.loader, base.python, base.found.identity)
    with pytest.raises(MlpkgError, match=f"the image's Python {base.python} could not compile"):
        compile_files(broken, files, cache=tmp_path / "cache")
    assert list(folder.iterdir()) == []


@linux
@pytest.mark.mirror
def test_a_damaged_interpreter_is_unpacked_again(base: Base, tmp_path: Path) -> None:
    first = interpreter(base.layer, python=base.python, platform=OWN, cache=tmp_path)
    assert first is not None
    module = first.root / "usr" / "lib" / f"python{base.python}" / "warnings.py"
    text = module.read_bytes()
    module.write_bytes(b"")
    assert interpreter(base.layer, python=base.python, platform=OWN, cache=tmp_path) == first
    assert module.read_bytes() == text
    assert [path.name for path in (tmp_path / "interpreters").iterdir()] == [first.root.name]
    assert first.identity == base.found.identity


@linux
@pytest.mark.mirror
def test_another_python_than_the_layer_s_is_none(base: Base) -> None:
    assert interpreter(base.layer, python="3.12", platform=OWN, cache=base.cache) is None


def tar_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A tar with files (bytes) and symlinks (text)."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return path


def test_another_architecture_is_none_and_costs_nothing(tmp_path: Path) -> None:
    layer = tar_of(tmp_path / "base.tar", ("usr/lib/python3.13/os.py", b""))
    assert interpreter(layer, python="3.13", platform=OTHER, cache=tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


@linux
def test_a_python_that_does_not_start_is_none(tmp_path: Path) -> None:
    loader = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    empty = tar_of(tmp_path / "empty.tar", ("etc/passwd", b""))
    foreign = tar_of(tmp_path / "foreign.tar", (loader, b"\x7fELF"), ("usr/bin/python3.13", b"\x7fELF"))
    silent = tar_of(tmp_path / "silent.tar", (loader, b"#!/bin/true\n"), ("usr/bin/python3.13", b""))
    for layer in (empty, foreign, silent):
        assert interpreter(layer, python="3.13", platform=OWN, cache=tmp_path / "cache") is None


LIB = "usr/lib/x86_64-linux-gnu"


@linux
@pytest.mark.parametrize(
    "members",
    [
        pytest.param([("usr/lib/python3.13/../../../../../out.py", b"x")], id="above"),
        pytest.param([("/usr/lib/python3.13/out.py", b"x")], id="absolute"),
        pytest.param([("etc/../../out", b"x")], id="above, not wanted"),
        pytest.param([("usr/lib/./python3.13/out.py", b"x")], id="dot"),
        pytest.param([("usr/lib/python3.13/a.py", b"x"), ("usr/lib/python3.13/a.py", b"y")], id="twice"),
        pytest.param([(f"{LIB}/libz.so.1", "libc.so.6"), (f"{LIB}/libz.so.1", b"y")], id="through a link"),
    ],
)
def test_a_hostile_base_is_refused(tmp_path: Path, members: list[tuple[str, bytes | str]]) -> None:
    layer = tar_of(tmp_path / "base.tar", *members)
    with pytest.raises(MlpkgError, match=r"base\.tar: (has a path that is not inside|cannot be unpacked)"):
        interpreter(layer, python="3.13", platform=OWN, cache=tmp_path / "deep" / "er" / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.tar", "deep"]
    assert list((tmp_path / "deep" / "er" / "cache" / "interpreters").iterdir()) == []


@linux
def test_links_that_lead_away_are_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x = 1\n")
    members: list[tuple[str, bytes | str]] = [
        (f"{LIB}/libz.so.1", "/etc/passwd"),
        (f"{LIB}/libm.so.6", "../../../../../../etc/passwd"),
        (f"{LIB}/libc.so.6", ".."),
        (f"{LIB}/libexpat.so.1", "libexpat.so.1.10"),
        ("usr/lib/python3.13/sitecustomize.py", str(secret)),
        ("usr/lib/python3.13/a.py", b""),
    ]
    layer = tar_of(tmp_path / "base.tar", *members)
    assert interpreter(layer, python="3.13", platform=OWN, cache=tmp_path) is None
    (root,) = (tmp_path / "interpreters").iterdir()
    files = {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or path.is_file()
    }
    assert files == {".identity", f"{LIB}/libexpat.so.1", "usr/lib/python3.13/a.py"}


@linux
def test_no_tar_at_all(tmp_path: Path) -> None:
    layer = tmp_path / "base.tar"
    layer.write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(MlpkgError, match="cannot be unpacked"):
        interpreter(layer, python="3.13", platform=OWN, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("usr/lib/python3.13/os.py", True),
        ("usr/lib/python3.13/_sysconfigdata__linux_x86_64-linux-gnu.py", True),
        ("usr/lib/python3/dist-packages/yaml/__init__.py", True),
        ("usr/local/lib/python3.13/dist-packages/numpy/testing/_private/utils.py", True),
        ("usr/local/lib/python3.13/dist-packages/six.py", True),
        ("usr/lib/python3.11/os.py", False),
        ("usr/lib/python3.13/config-3.13-x86_64-linux-gnu/python-config.py", False),
        ("usr/lib/python3.13/unittest/test/a.py", False),
        ("usr/local/lib/python3.13/dist-packages/numpy/tests/test_it.py", False),
        ("usr/local/lib/python3.13/dist-packages/a-1.dist-info/x.py", False),
        ("usr/local/lib/python3.13/dist-packages/numpy/core.so", False),
        ("usr/share/python3/runtime.py", False),
        ("usr/lib/python3.13/../../x.py", False),
        ("var/azureml-app/score.py", False),
    ],
)
def test_which_files_are_compiled(path: str, *, expected: bool) -> None:
    assert is_compiled(path, "3.13") is expected
