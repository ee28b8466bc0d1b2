"""The image's Python on this machine: unpacked from the base layer, run through its own dynamic loader."""

from __future__ import annotations

import platform as machine
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpkg.digest import Digest, framed
from mlpkg.errors import MlpkgError
from mlpkg.formats import BYTECODE
from mlpkg.platforms import platform_of
from mlpkg.store.files import file_digest, incoming_folder

_NEEDED = re.compile(
    r"usr/bin/python3\.\d+"
    r"|usr/lib/python3\.\d+/(?:\w+/)*[\w.-]+\.py"
    r"|usr/lib/[^/]+-linux-gnu/(?:ld-linux-[\w.-]+|lib(?:c|m|z|expat|dl|pthread|util)\.so\.[\d.]+)"
)
"""What Debian's python3 needs to start (its DT_NEEDED, bookworm and trixie) and its library in Python."""

_IDENTITY = ".identity"
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of an image that runs here. `identity` is the digest of all that its results depend on."""

    root: Path
    """Where it was unpacked: the image's root, with what it needs only."""
    loader: Path
    """The base's own ``ld.so``, below `root`."""
    python: str
    """``3.13``."""
    identity: Digest

    @property
    def cache_tag(self) -> str:
        """What stands before ``.pyc`` (PEP 3147): ``cpython-313``."""
        return "cpython-" + self.python.replace(".", "")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs it: isolated from this machine's libraries and site packages."""
        program = self.root / "usr" / "bin" / f"python{self.python}"
        # fmt: off
        return [
            str(self.loader), "--inhibit-cache", "--library-path", str(self.loader.parent), str(program),
            "-B", "-P", "-S", "-s", *arguments,
        ]
        # fmt: on

    def environment(self) -> dict[str, str]:
        """All of its environment: nothing of the user's reaches it."""
        return {
            "LC_ALL": "C",
            "PYTHONHASHSEED": "0",
            "PYTHONHOME": str(self.root / "usr"),
            "PYTHONUTF8": "1",
        }


def interpreter(base: Path, *, python: str, platform: str, cache: Path) -> Interpreter | None:
    """The Python of a base layer (an uncompressed tar), unpacked once below `cache`.

    `python` is ``3.13``, `platform` ``linux/amd64``. None when this machine cannot run it: another
    system or architecture, or a base without that Python; it was really run when it is given back.
    Raises MlpkgError for a layer that would write outside its folder or is no tar.
    """
    if not is_native(platform):
        return None
    root = _unpacked(base, cache / "interpreters")
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"), None)
    if loader is None:
        return None
    found = Interpreter(root, loader, python, Digest((root / _IDENTITY).read_text()))
    return found if _runs(found) else None


def _runs(found: Interpreter) -> bool:
    try:
        done = subprocess.run(
            found.command(["-c", "import sys; sys.stdout.write(sys.implementation.cache_tag)"]),
            env=found.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.decode("ascii", "replace") == found.cache_tag


def _unpacked(base: Path, folder: Path) -> Path:
    """The folder of a base layer's Python. One that is not whole any more is made anew."""
    root = folder / file_digest(base).removeprefix("sha256:")
    if _is_whole(root):
        return root
    with incoming_folder(folder) as temporary:
        new = temporary / "root"
        new.mkdir()
        unpack(base, _NEEDED, new)
        (new / _IDENTITY).write_text(_identity(new))
        if root.exists():
            root.replace(temporary / "damaged")
        try:
            new.rename(root)
        except OSError:
            # Another process was faster; what it made is the same.
            if not _is_whole(root):
                raise
    return root


def _is_whole(root: Path) -> bool:
    try:
        return (root / _IDENTITY).read_text() == _identity(root)
    except OSError:
        return False


def _identity(root: Path) -> Digest:
    """The digest of an unpacked Python and of how it is used; not of where it lies."""
    parts: list[bytes | str] = [BYTECODE, Path(__file__).with_name("worker.py").read_bytes()]
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root).as_posix()
        if path.is_file() and below != _IDENTITY:
            parts += [below, file_digest(path)]
    return framed(parts)


def unpack(layer: Path, wanted: re.Pattern[str], folder: Path) -> dict[str, Path]:
    """Unpack a layer's files whose whole path matches; by image path, where they lie now.

    A link is made only to a neighbour. Raises MlpkgError for a layer that is no tar, or that has a path
    that leaves its root, also where that path is not wanted.
    """
    found: dict[str, Path] = {}
    try:
        with tarfile.open(layer, "r:") as tar:
            for member in tar:
                path = _inside(member.name, layer)
                if wanted.fullmatch(path) and (member.isreg() or _is_neighbour(member)):
                    found[path] = folder / path
                    _place(tar, member, folder / path)
    except (tarfile.TarError, FileExistsError) as error:
        raise MlpkgError(
            f"{layer.name}: cannot be unpacked: {error}", hint="make the base layer again"
        ) from error
    return found


def _inside(name: str, layer: Path) -> str:
    path = name.rstrip("/")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise MlpkgError(f"{layer.name}: has a path that is not inside an image: {name!r}")
    return path


def _is_neighbour(member: tarfile.TarInfo) -> bool:
    return member.issym() and "/" not in member.linkname and member.linkname not in ("", ".", "..")


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
        return
    content = tar.extractfile(member)
    # "x": a file never goes where something is already, so never through a link either.
    with target.open("xb") as file:
        if content is not None:
            shutil.copyfileobj(content, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def is_native(platform: str) -> bool:
    """Whether this machine is of an image's platform (``linux/amd64``), so that its Python can run here."""
    here = platform_of(sys.platform, machine.machine())
    return here is not None and here.name == platform
