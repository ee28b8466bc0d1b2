"""The packages of a suite: loading and checking its indexes, and looking names up in them.

An index has about 69,000 stanzas in 57 MB of text. Only the places of the names are noted when it is
loaded; a stanza is taken apart when somebody asks for it, and a closure asks for a hundred.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mlpkg.debian.mirror import Mirrors
from mlpkg.debian.relation import Alternatives, Relation, parse_relations, parse_version
from mlpkg.debian.release import Release, verified_release
from mlpkg.debian.transfer import Absent, MirrorFiles
from mlpkg.digest import Digest, parse_digest
from mlpkg.errors import DigestMismatch, LockError
from mlpkg.lockfile import Deb
from mlpkg.platforms import BY_ARCHITECTURE
from mlpkg.store.blobs import Blobs

RELEASE_LIMIT = 16 << 20
"""Largest InRelease that is read, in bytes (trixie's has 140 kB)."""

PACKAGES_LIMIT = 1 << 30
"""Largest package index that is unpacked, in bytes."""

_NAME = re.compile(rb"\nPackage: ([^\n]+)")
_PROVIDES = re.compile(rb"\nProvides:([^\n]*(?:\n[ \t][^\n]*)*)")  # may go on in further lines (deb822(5))
_PROVIDED = re.compile(rb"(?:^|,)\s*([^\s,(:]+)")


@dataclass(frozen=True, slots=True)
class IndexedPackage:
    """One version of a package: what the lock notes of it, and its relations as the archive writes them."""

    deb: Deb
    depends: str = ""
    pre_depends: str = ""
    provides: str = ""
    conflicts: str = ""
    breaks: str = ""

    @property
    def name(self) -> str:
        """The package's name."""
        return self.deb.name

    @property
    def version(self) -> str:
        """The package's version."""
        return self.deb.version


@dataclass(frozen=True, slots=True)
class Archive:
    """The index of one suite: its text (a newline before the first stanza), and where each name stands."""

    suite: str
    text: bytes | bytearray = field(repr=False)
    places: Mapping[str, Sequence[int]] = field(repr=False)
    provided: Mapping[str, Sequence[str]] = field(repr=False)

    def packages(self, name: str) -> Iterator[IndexedPackage]:
        """All versions of that name. Raises LockError for a stanza that makes no sense."""
        for start in self.places.get(name, ()):
            end = self.text.find(b"\n\n", start)
            yield _package(
                self.text[start : end if end >= 0 else len(self.text)].decode("utf-8", "replace"), self.suite
            )


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """The packages of a suite, its updates and its security fixes for one architecture.

    `missing` names the suites that the mirrors do not have; without ``<suite>-security`` the image
    gets no security fixes, which is worth a notice.
    """

    suite: str
    architecture: str
    archives: tuple[Archive, ...]
    missing: tuple[str, ...] = ()

    def package(self, name: str) -> IndexedPackage | None:
        """The newest version of that name; of two equal ones the main archive's."""
        found = [package for archive in self.archives for package in archive.packages(name)]
        return max(found, key=lambda package: parse_version(package.version), default=None)

    def providers(self, relation: Relation) -> tuple[IndexedPackage, ...]:
        """The packages whose newest version provides what the relation asks for, sorted by name.

        A name without a version meets no condition on the version (Debian Policy §7.5).
        """
        names = {name for archive in self.archives for name in archive.provided.get(relation.name, ())}
        packages = (self.package(name) for name in sorted(names))
        return tuple(package for package in packages if package and provides(package, relation))

    def names(self) -> Iterable[str]:
        """All names, real ones only."""
        return {name for archive in self.archives for name in archive.places}


def relations(package: IndexedPackage, *fields: str) -> tuple[Alternatives, ...]:
    """The groups in these relation fields of the package. Raises LockError for one that makes no sense."""
    try:
        return tuple(group for field in fields for group in parse_relations(field))
    except ValueError as error:
        raise LockError(f"{package.name} {package.version}: {error}") from error


def provides(package: IndexedPackage, relation: Relation) -> bool:
    """Whether the package stands in for another name as the relation asks."""
    return any(
        given.name == relation.name
        and (not relation.operator or (bool(given.version) and relation.allows(given.version)))
        for group in relations(package, package.provides)
        for given in group
    )


def archive_from_text(suite: str, packages: bytes | bytearray) -> Archive:
    """An index from the text of a Packages file. A leading newline spares a copy of the text."""
    text = packages if packages.startswith(b"\n") else b"\n" + packages
    places: dict[str, list[int]] = {}
    starts: list[int] = []
    names: list[str] = []
    for match in _NAME.finditer(text):
        name = match[1].decode()
        starts.append(match.start() + 1)
        names.append(name)
        places.setdefault(name, []).append(match.start() + 1)
    provided: dict[str, list[str]] = {}
    for match in _PROVIDES.finditer(text):
        provider = names[bisect.bisect(starts, match.start()) - 1]
        for virtual in _PROVIDED.findall(match[1]):
            provided.setdefault(virtual.decode(), []).append(provider)
    return Archive(suite, text, places, provided)


def _package(stanza: str, suite: str) -> IndexedPackage:
    from debian.deb822 import Packages  # noqa: PLC0415

    fields = Packages(stanza)
    try:
        deb = Deb(
            fields["Package"],
            fields["Version"],
            fields["Architecture"],
            fields["Filename"].removeprefix("./"),
            int(fields["Size"]),
            parse_digest("sha256:" + fields["SHA256"]),
        )
        if deb.filename.startswith("/") or ".." in deb.filename.split("/"):
            raise LockError(
                f"the index of {suite} names a file outside the mirror for {deb.name}: {deb.filename!r}"
            )
        parse_version(deb.version)
    except (KeyError, ValueError) as error:
        name = fields.get("Package", "?")
        raise LockError(f"the index of {suite} has a broken entry for {name}: {error}") from error
    return IndexedPackage(
        deb,
        *(fields.get(key, "") for key in ("Depends", "Pre-Depends", "Provides", "Conflicts", "Breaks")),
    )


def load_index(
    mirrors: Mirrors, suite: str, architecture: str, cache: Path, *, now: datetime | None = None
) -> PackageIndex:
    """Fetch and check the indexes of a suite, its updates and its security fixes.

    The release files are always fetched; package indexes come from `cache` when they are there.
    Raises LockError for an index that cannot be trusted or is not there, Unreachable.
    """
    if architecture not in BY_ARCHITECTURE:
        raise LockError(f"no Debian base for {architecture!r}", hint="one of: " + ", ".join(BY_ARCHITECTURE))
    wanted = [(mirrors.main, suite, True), (mirrors.main, f"{suite}-updates", False)]
    if mirrors.security:
        wanted.append((mirrors.security, f"{suite}-security", mirrors.security_required))
    archives, missing = [], [] if mirrors.security else [f"{suite}-security"]
    with closing(MirrorFiles(mirrors)) as files:
        for base, name, required in wanted:
            signed = _signed(files, base, name, required=required)
            if signed is None:
                missing.append(name)
                continue
            address = f"{base}/dists/{name}/InRelease"
            release = verified_release(
                signed, mirrors, suite=name, address=address, now=now or datetime.now(UTC)
            )
            archives.append(
                archive_from_text(name, _packages(files, base, release, architecture, Blobs(cache)))
            )
    return PackageIndex(suite, architecture, tuple(archives), tuple(missing))


def _signed(files: MirrorFiles, base: str, suite: str, *, required: bool) -> bytes | None:
    """A suite's release file as it comes; None when the mirror has none and need not."""
    try:
        return files.read(base, f"dists/{suite}/InRelease", limit=RELEASE_LIMIT)
    except Absent as error:
        if required:
            raise LockError(error.message, hint="check [debian] mirror in mlpkg.toml") from error
        return None
    except DigestMismatch as error:
        raise LockError(error.message, hint="check [debian] mirror in mlpkg.toml") from error


def _packages(files: MirrorFiles, base: str, release: Release, architecture: str, blobs: Blobs) -> bytearray:
    """The text of a Packages file, from the cache or the mirror."""
    folder = f"dists/{release.suite}"
    paths = [f"main/binary-{architecture}/Packages{suffix}" for suffix in (".xz", ".gz")]
    listed = [path for path in paths if path in release.files]
    if not listed:
        raise LockError(
            f"{base}/{folder}: lists no packages for {architecture}", hint="the mirror may leave it out"
        )
    for path in listed:
        digest, size = release.files[path]
        if not blobs.is_whole(digest, size):
            hashed = f"{path.rpartition('/')[0]}/by-hash/SHA256/{digest.removeprefix('sha256:')}"
            names = [hashed, path] if release.by_hash else [path]
            if not _save_first(files, base, [f"{folder}/{name}" for name in names], (digest, size), blobs):
                continue
        return _unpack(blobs.path(digest), path, base)
    raise LockError(
        f"{base}/{folder}/{listed[0]}: the mirror does not have it", hint="try again, or use another mirror"
    )


def _save_first(
    files: MirrorFiles, base: str, paths: list[str], named: tuple[Digest, int], blobs: Blobs
) -> bool:
    for path in paths:
        try:
            files.save(base, path, *named, blobs)
        except Absent:
            continue
        except DigestMismatch as error:
            raise LockError(error.message, hint=error.hint) from error
        return True
    return False


def _unpack(target: Path, path: str, base: str) -> bytearray:
    import gzip  # noqa: PLC0415
    import lzma  # noqa: PLC0415

    text = bytearray(b"\n")
    try:
        with lzma.open(target) if path.endswith(".xz") else gzip.open(target) as file:
            while piece := file.read(1 << 20):
                text += piece
                if len(text) > PACKAGES_LIMIT:
                    raise LockError(f"{base}: {path} unpacks to more than {PACKAGES_LIMIT} bytes")
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise LockError(f"{base}: {path} cannot be unpacked: {error}") from error
    return text
