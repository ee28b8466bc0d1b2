"""A small Debian archive made from nothing: .debs, package indexes, and release files signed with a fresh key."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pysequoia import SignatureMode, Tsk, sign

from mlpkg.digest import sha256
from mlpkg.lockfile import Deb


@dataclass(frozen=True, slots=True)
class Item:
    """One member of a package's data.tar."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""


def folder(path: str, mode: int = 0o755) -> Item:
    return Item(path, mode=mode, kind=tarfile.DIRTYPE)


def link(path: str, target: str) -> Item:
    return Item(path, mode=0o777, kind=tarfile.SYMTYPE, target=target)


@dataclass(frozen=True, slots=True)
class Source:
    """What a test package consists of; `relations` are further control fields (Depends, Provides, …)."""

    name: str
    version: str = "1.0-1"
    relations: dict[str, str] = field(default_factory=dict)
    items: tuple[Item, ...] = ()
    architecture: str = "amd64"
    compression: str = "xz"

    @property
    def control(self) -> str:
        head = {"Package": self.name, "Version": self.version, "Architecture": self.architecture}
        fields = {
            **head,
            "Maintainer": "Nobody <nobody@example.org>",
            **self.relations,
            "Description": "a test",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items()) + " with a second line\n"

    @property
    def filename(self) -> str:
        return f"pool/main/{self.name[0]}/{self.name}/{self.name}_{self.version}_{self.architecture}.deb"


def deb_bytes(source: Source) -> bytes:
    """The package's file, as dpkg-deb would lay it out."""
    control = _tar((Item("./control", source.control.encode()),))
    data = _compressed(_tar(source.items), source.compression)
    members = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(control)),
        (f"data.tar.{source.compression}", data),
    )
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
        + body
        + b"\n" * (len(body) % 2)
        for name, body in members
    )


def _compressed(data: bytes, compression: str) -> bytes:
    if compression == "xz":
        return lzma.compress(data)
    return gzip.compress(data, mtime=0) if compression == "gz" else b"(\xb5/\xfd" + data


def _tar(items: Sequence[Item]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for item in items:
            info = tarfile.TarInfo(item.path)
            info.type, info.mode, info.linkname, info.size = item.kind, item.mode, item.target, len(item.data)
            info.uid, info.mtime = 1000, 1_700_000_000
            tar.addfile(info, io.BytesIO(item.data))
    return buffer.getvalue()


def locked(source: Source) -> Deb:
    """What a lock says of the package."""
    data = deb_bytes(source)
    return Deb(source.name, source.version, source.architecture, source.filename, len(data), sha256(data))


def stanza(source: Source) -> str:
    """The package's entry in a Packages file."""
    deb = locked(source)
    return source.control + (
        f"Filename: {deb.filename}\nSize: {deb.size}\nSHA256: {deb.digest.removeprefix('sha256:')}\n"
    )


def packages_text(sources: Sequence[Source]) -> bytes:
    return "\n".join(stanza(source) for source in sources).encode()


@dataclass(frozen=True, slots=True)
class SignedArchive:
    """A mirror's folder, and the key that signs its release files."""

    root: Path
    key: Tsk

    @property
    def certificate(self) -> bytes:
        return bytes(self.key.extract_certificate())

    def publish(
        self,
        suite: str,
        sources: Sequence[Source],
        *,
        head: dict[str, str] | None = None,
        key: Tsk | None = None,
        by_hash: bool = True,
        suffix: str = ".xz",
        architecture: str = "amd64",
    ) -> None:
        """Write a suite's index and release file, and the packages' files."""
        text = packages_text(sources)
        packed = lzma.compress(text) if suffix == ".xz" else gzip.compress(text)
        where = f"main/binary-{architecture}"
        digest = hashlib.sha256(packed).hexdigest()
        path = f"{where}/by-hash/SHA256/{digest}" if by_hash else f"{where}/Packages{suffix}"
        self.put(f"dists/{suite}/{path}", packed)
        fields = {"Origin": "Test", "Suite": "stable", "Codename": suite, **(head or {})}
        if by_hash:
            fields["Acquire-By-Hash"] = "yes"
        release = "".join(f"{name}: {value}\n" for name, value in fields.items())
        release += f"MD5Sum:\n {'0' * 32} 1 {where}/Packages{suffix}\nSHA256:\n {digest} {len(packed)} {where}/Packages{suffix}\n"
        signer = (key or self.key).signer()
        self.put(f"dists/{suite}/InRelease", sign(signer, release.encode(), mode=SignatureMode.CLEAR))
        for source in sources:
            self.put(source.filename, deb_bytes(source))

    def put(self, path: str, data: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
