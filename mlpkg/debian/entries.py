"""From .debs to layer entries: what is kept, where it goes, and what maintainer scripts would have made.

The entries stream: a file's content is read from the .deb at the moment the layer is written. Owners
are always 0:0, so set-user-id bits (which no service of ours needs) are dropped.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlpkg.debian.base import check_suite
from mlpkg.debian.deb import Member, open_deb
from mlpkg.errors import MlpkgError
from mlpkg.formats import DEBIAN
from mlpkg.layer import Bytes, Entry
from mlpkg.lockfile import Deb
from mlpkg.platforms import BY_ARCHITECTURE

FORMAT = DEBIAN
"""Changes when the same .debs would give other entries."""

USER = 65532
"""The service's user and group, the number that distroless images made usual."""


_MERGED = {"amd64": ("bin", "lib", "lib64", "sbin"), "arm64": ("bin", "lib", "sbin")}
"""Folders that are links into /usr. bookworm's packages still hold files in them."""

_MOVED = re.compile(r"(bin|sbin|lib|lib32|lib64|libo32|libx32)/(?=.)|var/(?=run/.|lock/.)")
"""Paths below a folder that is a link in the image; var/run is run, var/lock is run/lock."""

_LEFT_OUT = re.compile(
    # Nobody reads manuals and translations in a service's image: dpkg's path-exclude of slim images.
    r"usr/share/(man|info|locale|lintian|bash-completion|zsh|fish|doc-base|bug|gtk-doc|groff)(/|$)"
    r"|usr/share/doc$|usr/share/doc/[^/]+/(?!copyright$)"
    # Python's tests, its teaching programs, and the texts of help(): 2 MB.
    r"|usr/lib/python3[^/]*/(test|idlelib|turtledemo|pydoc_data|lib2to3/tests)(/|$)"
    r"|usr/lib/python3[^/]*/lib-dynload/(_test|_ctypes_test|_xxtestfuzz|xx)"
    r"|usr/lib/python3[^/]*/(.+/)?__pycache__(/|$)"
    # Sources of what is made below.
    r"|usr/share/(ca-certificates|base-passwd)(/|$)|usr/sbin/update-(passwd|ca-certificates)$"
    # Old spellings of every time zone, and the zones with leap seconds.
    r"|usr/share/zoneinfo/(posix|right)(/|$)"
)

_CHARSETS = re.compile(r"usr/lib/[^/]+/gconv/(?!gconv-modules|UTF-|UNICODE|ISO8859-15?\.|CP125[0-9]|ANSI_X3)")
"""iconv's modules for rare character sets: 7 of libc6's 13 MB. UTF-8 and ASCII are in the library, Python
has its own. What is kept is what Fedora's glibc keeps (the rest is glibc-gconv-extra there), and Windows'
code pages for database drivers."""

_LOCALE_ONLY = re.compile(r"usr/(bin|sbin)/")
"""libc-bin is there for its locale; its programs serve compilers and administrators."""

_SOURCES = re.compile(
    r"usr/share/base-passwd/(passwd|group)\.master|usr/share/ca-certificates/.+\.crt"
    r"|usr/share/(base-files|libc-bin)/nsswitch\.conf"
)

_LIB = "usr/lib/{triplet}/"
_ALTERNATIVES = (
    # Links that update-alternatives would make, for packages that do not work without: the first pattern
    # that a file of the layer matches.
    ("usr/bin/awk", ("usr/bin/gawk", "usr/bin/mawk", "usr/bin/original-awk")),
    ("usr/bin/java", ("usr/lib/jvm/*/bin/java",)),
    (_LIB + "libblas.so.3", (_LIB + "openblas*/libblas.so.3", _LIB + "*blas*/libblas.so.3")),
    (_LIB + "liblapack.so.3", (_LIB + "openblas*/liblapack.so.3", _LIB + "*la[sp]*/liblapack.so.3")),
    (_LIB + "libopenblas.so.0", (_LIB + "openblas*/libopenblas.so.0",)),
)

_SPECIAL = frozenset(("home", "root", "run", "tmp", "var/run", "var/lock", "var/tmp"))
"""Folders whose mode is the base's matter; a layer on top must not change it."""

_NSSWITCH = b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"


@dataclass(slots=True)
class _Layer:
    """What was emitted so far, by path, and the sources of what is made at the end."""

    with_base: bool
    emitted: dict[str, Entry] = field(default_factory=dict)
    sources: dict[str, bytes] = field(default_factory=dict)

    def emit(self, entry: Entry) -> Entry:
        # Without its content, which would keep the whole .deb open.
        self.emitted[entry.path] = replace(entry, content=None)
        return entry


def layer_entries(debs: Sequence[tuple[Deb, Path]], *, suite: str, with_base: bool = True) -> Iterator[Entry]:
    """The entries of the layer that these packages make, for `mlpkg.layer.tar_stream`.

    With `with_base`, also what every image needs: the links into /usr, users, certificates, folders.
    Without, the layer is meant to lie on such a base. An entry's content must be read before the next
    entry is taken. Raises MlpkgError for packages that cannot be laid out, DigestMismatch for a file
    that is not the locked one.
    """
    check_suite(suite)
    layer = _Layer(with_base)
    architecture = next((deb.architecture for deb, _ in debs if deb.architecture != "all"), "amd64")
    if with_base:
        yield from _links(layer, architecture)
    for deb, path in debs:
        with open_deb(path, deb) as opened:
            # One file a package, as distroless images have it: scanners look there without dpkg.
            yield layer.emit(Entry(f"var/lib/dpkg/status.d/{deb.name}", content=Bytes(opened.control)))
            for member in opened.members():
                entry = _placed(layer, member)
                if entry:
                    yield layer.emit(entry)
    yield from _alternatives(layer, architecture)
    if with_base:
        yield from _made(layer)


def _links(layer: _Layer, architecture: str) -> Iterator[Entry]:
    for name in _MERGED.get(architecture, ()):
        yield layer.emit(Entry(f"usr/{name}", "directory", 0o755))
        yield layer.emit(Entry(name, "symlink", 0o777, target=f"usr/{name}"))
    # base-files ships these two as folders and turns them into links when it is installed.
    yield layer.emit(Entry("var/lock", "symlink", 0o777, target="/run/lock"))
    yield layer.emit(Entry("var/run", "symlink", 0o777, target="/run"))


def _placed(layer: _Layer, member: Member) -> Entry | None:
    """Where a package's member goes in the layer; None when it stays out."""
    path = _moved(member.path)
    if member.kind == "file" and _SOURCES.fullmatch(path) and layer.with_base:
        layer.sources[path] = b"".join(member.read())
        return None
    if _is_left_out(path, member.package) or _is_there(layer, path, member):
        return None
    for above in _above(path):
        if above in layer.emitted and layer.emitted[above].kind != "directory":
            raise MlpkgError(
                f"{member.package}: /{path} lies below /{above}, which another package made no folder"
            )
    if member.kind == "hardlink":
        return _hardlink(layer, path, member)
    mode = member.mode & (0o1777 if member.kind == "directory" else 0o777)
    content = member if member.kind == "file" else None
    return Entry(path, member.kind, mode, content, member.target)


def _moved(path: str) -> str:
    match = _MOVED.match(path)
    if not match:
        return path
    return path[len("var/") :].replace("lock/", "run/lock/", 1) if match[0] == "var/" else f"usr/{path}"


def _is_left_out(path: str, package: str) -> bool:
    return bool(
        _LEFT_OUT.match(path) or _CHARSETS.match(path) or (package == "libc-bin" and _LOCALE_ONLY.match(path))
    )


def _is_there(layer: _Layer, path: str, member: Member) -> bool:
    """Whether the layer (or the base below it) has the folder or link already. Raises MlpkgError for a clash."""
    if member.kind == "directory" and path in _MERGED["amd64"]:
        return True
    if not layer.with_base and member.kind == "directory" and path in _SPECIAL:
        return True
    known = layer.emitted.get(path)
    if known is None:
        return False
    if member.kind == "directory" and known.kind in ("directory", "symlink"):
        return True
    if member.kind == known.kind == "symlink" and member.target.strip("/") == known.target.strip("/"):
        return True
    raise MlpkgError(
        f"{member.package}: /{path} is in another package of the layer too",
        hint="remove one of the two from [environment] debian",
    )


def _hardlink(layer: _Layer, path: str, member: Member) -> Entry:
    target = _moved(member.target)
    if target not in layer.emitted:
        raise MlpkgError(
            f"{member.package}: /{path} is a hard link to /{target}, which the layer does not have"
        )
    return Entry(path, "hardlink", member.mode & 0o777, target=target)


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _alternatives(layer: _Layer, architecture: str) -> Iterator[Entry]:
    platform = BY_ARCHITECTURE.get(architecture)
    triplet = platform.triplet if platform else ""
    for link, patterns in _ALTERNATIVES:
        path = link.format(triplet=triplet)
        found = [
            name
            for pattern in patterns
            for name in fnmatch.filter(sorted(layer.emitted), pattern.format(triplet=triplet))
        ]
        if found and path not in layer.emitted:
            yield layer.emit(Entry(path, "symlink", 0o777, target="/" + found[0]))


def _made(layer: _Layer) -> Iterator[Entry]:
    """What base-passwd's, ca-certificates', base-files' and tzdata's scripts make, as fixed data."""
    sources = layer.sources
    passwd = sources.get("usr/share/base-passwd/passwd.master", b"root:*:0:0:root:/root:/bin/sh\n")
    group = sources.get("usr/share/base-passwd/group.master", b"root:*:0:\n")
    bundle = b"".join(
        sources[path].rstrip(b"\n") + b"\n" for path in sorted(sources) if path.endswith(".crt")
    )
    nsswitch = next((sources[path] for path in sorted(sources) if path.endswith("nsswitch.conf")), _NSSWITCH)
    files = {
        "etc/group": group + b"nonroot:x:%d:\n" % USER,
        "etc/nsswitch.conf": nsswitch,
        "etc/passwd": passwd + b"nonroot:x:%d:%d:nonroot:/home/nonroot:/sbin/nologin\n" % (USER, USER),
        "etc/ssl/certs/ca-certificates.crt": bundle,
        "etc/timezone": b"Etc/UTC\n",
    }
    links = {
        "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
        # OpenSSL looks for cert.pem before it looks names up by hash; Debian ships only the latter.
        "usr/lib/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
        "usr/lib/ssl/certs": "/etc/ssl/certs",
    }
    folders = {
        "home/nonroot": 0o1777,  # a layer has no owners but 0:0, and the service's user writes caches there
        "run": 0o755,
        "run/lock": 0o1777,
        "tmp": 0o1777,
        "var/tmp": 0o1777,
    }
    made = [
        *(Entry(path, content=Bytes(data)) for path, data in files.items() if data),
        *(Entry(path, "symlink", 0o777, target=target) for path, target in links.items()),
        *(Entry(path, "directory", mode) for path, mode in folders.items()),
    ]
    for entry in sorted(made, key=lambda entry: entry.path):
        if entry.path not in layer.emitted:
            yield layer.emit(entry)
