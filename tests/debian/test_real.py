"""Against the machine's real mirror: both suites resolve, their base layers are made, and their Python runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from mlpkg import debian
from mlpkg.debian.index import PackageIndex
from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import Digest, sha256
from mlpkg.errors import LockError, Unreachable
from mlpkg.layer import tar_stream
from mlpkg.lockfile import Deb
from mlpkg.spec.model import DebianTable

PROGRAM = """
import asyncio, bz2, ctypes, dbm.ndbm, decimal, hashlib, json, lzma, multiprocessing, os, pwd, readline, socket
import sqlite3, ssl, sys, tempfile, uuid, zlib, zoneinfo
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
assert len(ssl.create_default_context().get_ca_certs()) > 100
assert pwd.getpwuid(os.getuid()).pw_name == "nonroot", os.getuid()
for library in ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1"):
    ctypes.CDLL(library)
assert zoneinfo.ZoneInfo("Europe/Berlin")
assert sys.getfilesystemencoding() == "utf-8"
tempfile.TemporaryFile().close()
print("%d.%d" % sys.version_info[:2])
"""


@dataclass(frozen=True, slots=True)
class Base:
    """A suite's base: the packages, their files, and the layer as a tar file."""

    suite: str
    index: PackageIndex
    mirrors: Mirrors
    debs: tuple[Deb, ...]
    paths: tuple[Path, ...]
    layer: Path
    digest: Digest


def layer_bytes(debs: tuple[Deb, ...], paths: tuple[Path, ...], suite: str, *, with_base: bool) -> bytes:
    pairs = list(zip(debs, paths, strict=True))
    return b"".join(tar_stream(debian.layer_entries(pairs, suite=suite, with_base=with_base)))


@pytest.fixture(scope="module", params=debian.SUITES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    suite: str = request.param
    folder = tmp_path_factory.mktemp(suite)
    try:
        mirrors = debian.choose_mirrors(DebianTable())
        index = debian.load_index(mirrors, suite, "amd64", folder / "cache")
    except (LockError, Unreachable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Debian mirror here: {error.message}")
    debs = debian.resolve(index, debian.base_packages(suite, with_python=True))
    paths = debian.fetch_debs(mirrors, debs, folder / "cache")
    data = layer_bytes(debs, paths, suite, with_base=True)
    layer = folder / "base.tar"
    layer.write_bytes(data)
    return Base(suite, index, mirrors, debs, paths, layer, sha256(data))


@pytest.mark.mirror
def test_the_base_is_small_and_complete(base: Base) -> None:
    names = {deb.name for deb in base.debs}
    assert {"libc6", "python3", f"python{debian.python_version(base.suite)}", "tzdata"} <= names
    assert not {"bash", "debconf", "dpkg", "gawk", "openssl", "perl-base", "tar"} & names
    libc = next(deb for deb in base.debs if deb.name == "libc6")
    assert libc.version.startswith(debian.glibc_version(base.suite) + "-")
    assert base.layer.stat().st_size < 48e6


@pytest.mark.mirror
@pytest.mark.long
def test_made_twice_it_is_the_same(base: Base) -> None:
    assert sha256(layer_bytes(base.debs, base.paths, base.suite, with_base=True)) == base.digest


@pytest.mark.mirror
def test_its_links_lead_somewhere(base: Base) -> None:
    with tarfile.open(base.layer) as tar:
        found = {info.name: info for info in tar}
    assert [found[name].linkname for name in ("bin", "lib", "sbin")] == ["usr/bin", "usr/lib", "usr/sbin"]
    inside = {
        name: info for name, info in found.items() if info.issym() and not name.startswith("usr/share/doc/")
    }
    dangling = [name for name, info in inside.items() if resolved(name, info.linkname, found) not in found]
    assert not dangling


def resolved(name: str, target: str, found: dict[str, tarfile.TarInfo]) -> str:
    """Where a link leads, with the folders that are links themselves followed."""
    start = target if target.startswith("/") else f"/{Path(name).parent}/{target}"
    path = os.path.normpath(start).lstrip("/")
    first, slash, rest = path.partition("/")
    if slash and first in found and found[first].issym():
        return f"{found[first].linkname}/{rest}"
    return path


@pytest.mark.mirror
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="chroot needs root")
@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
@pytest.mark.long
def test_its_python_runs_in_a_chroot(base: Base, tmp_path: Path, locale: str) -> None:
    subprocess.run(["tar", "-xpf", base.layer, "-C", tmp_path], check=True, timeout=60)
    tmp_path.chmod(0o755)  # it is the user's root folder
    command = ["chroot", "--userspec=65532:65532", str(tmp_path), "/usr/bin/python3", "-B", "-c", PROGRAM]
    environ = {"LC_ALL": locale, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == (debian.python_version(base.suite) + "\n", "")


@pytest.fixture
def image(base: Base) -> Iterator[str]:
    """The base as an image in the Docker engine."""
    client = docker.from_env(timeout=60)
    name = f"mlpkg-test-base-{uuid.uuid4().hex[:12]}"
    try:
        client.api.import_image_from_file(str(base.layer), repository=name, tag="1")
        yield f"{name}:1"
        client.images.remove(f"{name}:1", force=True)
    finally:
        client.close()


@pytest.mark.mirror
@pytest.mark.docker
@pytest.mark.long
def test_its_python_runs_in_docker_without_root_and_read_only(base: Base, image: str) -> None:
    client = docker.from_env(timeout=60)
    try:
        output = client.containers.run(
            image,
            ["/usr/bin/python3", "-c", PROGRAM],
            user="65532",
            read_only=True,
            tmpfs={"/tmp": ""},
            network_mode="none",
            remove=True,
        )
    finally:
        client.close()
    assert output.decode() == debian.python_version(base.suite) + "\n"


@pytest.mark.mirror
def test_system_packages_lie_on_top_and_repeat_nothing(base: Base, tmp_path: Path) -> None:
    extra = debian.resolve(base.index, ["libgomp1", "dash"], present=base.debs)
    assert [deb.name for deb in extra] == ["dash", "libgomp1"]
    paths = debian.fetch_debs(base.mirrors, extra, base.paths[0].parent.parent)
    layer = tmp_path / "system.tar"
    layer.write_bytes(layer_bytes(extra, paths, base.suite, with_base=False))
    with tarfile.open(base.layer) as below, tarfile.open(layer) as above:
        lower = {info.name: info for info in below}
        clashes = [
            info.name
            for info in above
            if info.name in lower
            and not (info.isdir() and lower[info.name].isdir() and info.mode == lower[info.name].mode)
        ]
        names = {info.name for info in above}
    assert not clashes
    assert {"usr/bin/sh", "usr/bin/dash", "usr/lib/x86_64-linux-gnu/libgomp.so.1"} <= names


@pytest.mark.mirror
@pytest.mark.long
def test_the_other_architecture(base: Base, tmp_path: Path) -> None:
    index = debian.load_index(base.mirrors, base.suite, "arm64", tmp_path / "cache")
    debs = debian.resolve(index, debian.base_packages(base.suite, with_python=True))
    assert {deb.architecture for deb in debs} == {"arm64", "all"}
    assert "python3" in {deb.name for deb in debs}
