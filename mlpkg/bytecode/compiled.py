"""Sources in, .pyc entries out: which files are compiled, by several processes, remembered by content."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache as remembered
from itertools import chain
from pathlib import Path

from mlpkg.bytecode.interpreter import Interpreter, unpack
from mlpkg.digest import Digest, framed, parse_digest
from mlpkg.errors import ChangedInput, DigestMismatch, MlpkgError
from mlpkg.formats import BYTECODE
from mlpkg.layer import CHUNK, Content, Entry, SourceFile
from mlpkg.store.blobs import Blobs
from mlpkg.store.files import file_digest, incoming_folder, read_pieces, write_atomically

_WORKER = Path(__file__).with_name("worker.py")
_SHARE = 16
"""Files below which another process costs more (its start: 20 ms) than it saves."""

_TESTS = frozenset(("test", "tests", "idlelib", "lib2to3", "turtledemo"))
"""Folders that no service imports: 52 of the 91 MB that scikit-learn's and pandas' wheels compile to."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file that was checked as a whole: `size` bytes from `start`."""

    path: Path
    start: int
    size: int

    def read(self) -> Iterator[bytes]:
        """The bytes, in pieces of 1 MiB. Raises ChangedInput."""
        left = self.size
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.start)
                while left and (piece := file.read(min(CHUNK, left))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise ChangedInput(f"{self.path}: cannot be read: {error.strerror}") from error
        if left:
            raise ChangedInput(f"{self.path}: became shorter while it was read", hint="run the step again")


def wheel_bytecode(found: Interpreter, entries: Sequence[Entry], *, cache: Path) -> list[Entry]:
    """The compiled files that belong beside a wheel's entries, sorted by path; tests are left out.

    Raises MlpkgError, and ChangedInput from the entries' contents.
    """
    there = {entry.path for entry in entries}
    with incoming_folder() as scratch:
        files = {
            entry.path: _on_disk(entry.content, scratch / str(number))
            for number, entry in enumerate(entries)
            if entry.kind == "file" and entry.content and is_compiled(entry.path, found.python)
        }
        made = compile_files(found, files, cache=cache)
    return [Entry(path, content=made[path]) for path in sorted(made) if path not in there]


def layer_bytecode(found: Interpreter, layers: Sequence[Path], *, cache: Path) -> list[Entry]:
    """The compiled files for all Python sources of some layers (uncompressed tars, the lowest first).

    For the base and the system layer: the standard library and Debian's packages. Raises MlpkgError.
    """
    files: dict[str, Path] = {}
    with incoming_folder() as scratch:
        for number, layer in enumerate(layers):
            files |= unpack(layer, _importable(found.python), scratch / str(number))
        chosen = {
            path: file
            for path, file in files.items()
            if is_compiled(path, found.python) and not file.is_symlink()
        }
        made = compile_files(found, chosen, cache=cache)
    return [Entry(path, content=made[path]) for path in sorted(made)]


def compile_files(found: Interpreter, files: Mapping[str, Path], *, cache: Path) -> dict[str, Content]:
    """Compile sources, given by their image path, to .pyc files by theirs.

    Unchecked hash-based .pyc (PEP 552), so that no time stamp is in them and none is compared; tracebacks
    name the image's path. What does not compile (templates, broken examples) is left out, as
    ``compileall -q`` does. Kept below `cache` as one file for all of `files`: give what moves together.
    The bytes depend on `found.identity`, the image path and the source alone. Raises MlpkgError.
    """
    if not files:
        return {}
    folder = cache / "bytecode"
    packs = Blobs(folder)
    index = folder / f"{_key(found, files).removeprefix('sha256:')}.json"
    known = _recall(index, packs)
    if known is None:
        with incoming_folder(folder) as scratch:
            shares = _shares(files)
            rows = _run(found, shares, scratch)
            made = (read_pieces(scratch / str(number)) for number in range(len(shares)))
            pack, _ = packs.write(chain.from_iterable(made))
        write_atomically(index, json.dumps({"pack": pack, "files": rows}).encode())
        known = pack, rows
    pack, rows = known
    contents: dict[str, Content] = {}
    start = 0
    for path, size in rows:
        contents[pyc_path(path, found.cache_tag)] = Slice(packs.path(pack), start, size)
        start += size
    return contents


def is_compiled(path: str, python: str) -> bool:
    """Whether a file of the image gets a .pyc: importable for that Python, and below no folder of tests."""
    return bool(_importable(python).fullmatch(path)) and _TESTS.isdisjoint(path.split("/")[:-1])


def pyc_path(path: str, cache_tag: str) -> str:
    """Where the .pyc of a source belongs (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{cache_tag}.pyc"


@remembered
def _importable(python: str) -> re.Pattern[str]:
    """Sources in Debian's import path: folders must be identifiers, a module's own name need not be."""
    version = re.escape(python)
    return re.compile(
        rf"usr/(?:lib/python(?:3|{version})|local/lib/python{version})/(?:dist-packages/)?(?:[^\W\d]\w*/)*[\w.-]+\.py"
    )


def _on_disk(content: Content, spare: Path) -> Path:
    if isinstance(content, SourceFile):
        return content.path.absolute()
    with spare.open("wb") as file:
        file.writelines(content.read())
    return spare


def _key(found: Interpreter, files: Mapping[str, Path]) -> Digest:
    parts: list[bytes | str] = [BYTECODE, found.identity]
    for path in sorted(files):
        parts += [path, file_digest(files[path])]
    return framed(parts)


def _recall(index: Path, packs: Blobs) -> tuple[Digest, list[tuple[str, int]]] | None:
    """What was compiled before; None where there is nothing whole."""
    try:
        value = json.loads(index.read_bytes())
        pack = parse_digest(value["pack"])
        rows = [(str(path), int(size)) for path, size in value["files"]]
        held = sum(len(piece) for piece in packs.read(pack))
    except (OSError, ValueError, KeyError, TypeError, DigestMismatch):
        return None
    return (pack, rows) if held == sum(size for _, size in rows) else None


def _shares(files: Mapping[str, Path]) -> list[list[tuple[str, Path]]]:
    """The work of each process: neighbours apart, since big files lie together."""
    rows = sorted(files.items())
    count = min(len(os.sched_getaffinity(0)), -(-len(rows) // _SHARE))
    return [rows[number::count] for number in range(count)]


def _run(
    found: Interpreter, shares: Sequence[Sequence[tuple[str, Path]]], folder: Path
) -> list[tuple[str, int]]:
    """Compile each share in a process of its own; image paths and sizes, in the order of the packs."""
    with ExitStack() as stack:
        running = []
        for number, share in enumerate(shares):
            jobs = b"".join(
                os.fsencode(source) + b"\0" + f"/{path}".encode() + b"\0" for path, source in share
            )
            process = _start(found, jobs, folder / str(number))
            stack.callback(_stop, process)
            running.append(process)
        codes = [process.wait() for process in running]
    if any(codes):
        said = b"".join((folder / f"{number}.err").read_bytes() for number in range(len(shares)))
        raise MlpkgError(
            f"the image's Python {found.python} could not compile:\n{said.decode('utf-8', 'replace')[-2000:].strip()}",
            hint="mostly a lack of memory or of space in the cache folder; run the step again",
        )
    return [row for number, share in enumerate(shares) for row in _rows(share, folder / str(number))]


def _start(found: Interpreter, jobs: bytes, pack: Path) -> subprocess.Popen[bytes]:
    """Files, not pipes: no side ever waits for the other to read."""
    asked = pack.with_suffix(".in")
    asked.write_bytes(jobs)
    pack.touch()
    with (
        asked.open("rb") as source,
        pack.with_suffix(".out").open("wb") as out,
        pack.with_suffix(".err").open("wb") as err,
    ):
        return subprocess.Popen(
            found.command([str(_WORKER), str(pack)]),
            env=found.environment(),
            cwd=pack.parent,
            stdin=source,
            stdout=out,
            stderr=err,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _rows(share: Sequence[tuple[str, Path]], pack: Path) -> list[tuple[str, int]]:
    sizes = [int(line) for line in pack.with_suffix(".out").read_bytes().split()]
    rows = [(path, size) for (path, _), size in zip(share, sizes, strict=True) if size >= 0]
    if sum(size for _, size in rows) != pack.stat().st_size:
        raise MlpkgError("the compiled files do not have the sizes that were said", hint="run the step again")
    return rows
