"""mlpkg's own files: templates, the bundled registry's package, the server that ships in images."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mlpkg.digest import Digest, framed
from mlpkg.spec.listing import SourceEntry

_HERE = Path(__file__).resolve().parents[1]


def data_folder(name: str) -> Path:
    """`templates` or `registry`: beside the package in a checkout, inside it when installed."""
    installed = _HERE / "_data" / name
    return installed if installed.is_dir() else _HERE.parent / name


def package_folder() -> Path:
    """The folder that files of origin ``mlpkg`` are relative to."""
    return _HERE


@cache
def runtime_files() -> tuple[SourceEntry, ...]:
    """The server's modules, relative to the runtime folder, sorted."""
    folder = _HERE / "runtime"
    files = sorted(path for path in folder.rglob("*.py") if path.is_file())
    return tuple(SourceEntry(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)


def templates() -> dict[str, str]:
    """The texts of all templates, by name."""
    return {path.name: path.read_text() for path in sorted(data_folder("templates").glob("*.j2"))}


@cache
def templates_digest() -> Digest:
    """Moves when any template does."""
    return framed(part for name, text in templates().items() for part in (name, text))
