"""Hostile .debs: refused by name or harmless, within bounds of memory and disk. docs/security.md, "A hostile package"."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest

from mlpkg import debian
from mlpkg.debian import deb as debs
from mlpkg.debian import tar as tars
from mlpkg.errors import MlpkgError
from mlpkg.layer import tar_stream, unpacked_limit
from mlpkg.store.blobs import Blobs

from .hostile import (
    CONTROL,
    END,
    ar,
    ar_header,
    check_layer,
    deb_of,
    joined,
    listing,
    placed,
    run_child,
    tar_block,
    tar_of,
    zeros_gzip,
)

CONTROL_TAR = ("control.tar", tar_block(b"./control", data=CONTROL) + END)
FORMAT = ("debian-binary", b"2.0\n")


def layer(folder: Path, deb: bytes, *, with_base: bool = False) -> bytes:
    """The layer's bytes, through the blob cache, of which nothing stays when the .deb is refused."""
    found = placed(folder, deb)
    blobs = Blobs(folder / "cache")
    before = listing(folder, blobs.folder)
    try:
        digest, _size = blobs.write(
            tar_stream(debian.layer_entries(found, suite="trixie", with_base=with_base))
        )
    except MlpkgError:
        assert list((blobs.folder / "sha256").iterdir()) == []
        raise
    finally:
        assert listing(folder, blobs.folder) == before
    return joined(blobs.read(digest))


def pax(**headers: str) -> bytes:
    """A tar with one file whose extended header says these things."""
    info = tarfile.TarInfo("./usr/a")
    info.pax_headers = {key.replace("_", "."): value for key, value in headers.items()}
    return tar_of((info, b"content"))


def long_names(count: int) -> bytes:
    return tar_block(b"././@LongLink", b"L", b"a" * 200 + b"\0") * count


HUGE = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"  # base 256: 2**63 - 1 bytes (GNU tar, "Extensions")
NEGATIVE = b"\xff" * 11 + b"\0"

REFUSED = {
    "a path upwards": tar_block(b"./usr/../../evil"),
    "an absolute path": tar_block(b"/evil"),
    "an absolute path of two slashes": tar_block(b"//evil"),
    "a path through an empty name": tar_block(b"usr//evil"),
    "a hard link out": tar_block(b"./a", b"1", target=b"../../etc/shadow"),
    "an absolute hard link": tar_block(b"./a", b"1", target=b"/etc/shadow"),
    "a hard link to nothing of the package": tar_block(b"./a", b"1", target=b"etc/shadow"),
    "a hard link to a symlink": tar_block(b"./a", b"2", target=b"/etc/shadow")
    + tar_block(b"./b", b"1", target=b"./a"),
    "a symlink out": tar_block(b"./a", b"2", target=b"../etc"),
    "a file below a symlink": tar_block(b"./opt/x", b"2", target=b"/etc") + tar_block(b"./opt/x/passwd"),
    "a folder below a symlink": tar_block(b"./opt/x", b"2", target=b"/etc") + tar_block(b"./opt/x/d/", b"5"),
    "a hard link below a symlink": tar_block(b"./f")
    + tar_block(b"./opt/x", b"2", target=b"/etc")
    + tar_block(b"./opt/x/h", b"1", target=b"./f"),
    "a file over its folder": tar_block(b"./a/", b"5") + tar_block(b"./a"),
    "a folder over its file": tar_block(b"./a") + tar_block(b"./a/", b"5"),
    "a file below a file": tar_block(b"./a") + tar_block(b"./a/b"),
    "one file twice": tar_block(b"./a") + tar_block(b"./a"),
    "a symlink over a file": tar_block(b"./a") + tar_block(b"./a", b"2", target=b"/etc"),
    "control characters": tar_block(b"./usr/a\x1b[31m"),
    "a newline": tar_block(b"./usr/a\nb"),
    "a link with control characters": tar_block(b"./a", b"2", target=b"usr/\x1b[2J"),
    "a character device": tar_block(b"./dev/mem", b"3"),
    "a block device": tar_block(b"./dev/sda", b"4"),
    "a pipe": tar_block(b"./run/pipe", b"6"),
    "an unknown type": tar_block(b"./a", b"Z"),
    "a contiguous file": tar_block(b"./a", b"7"),
    "GNU's sparse type": tar_block(b"./a", b"S", b"x" * 512),
    "a dump folder": tar_block(b"./a", b"D"),
    "a volume": tar_block(b"./a", b"V"),
    "a pax path": pax(path="../../evil"),
    "a pax size": pax(size="99999999999"),
    "a negative pax size": pax(size="-512"),
    "a pax sparse map": pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="8796093022208"),
    "a global pax header": tar_block(b"g", b"g", b"17 path=/etc/evil\n") + tar_block(b"./a"),
    "a negative size": tar_block(b"./a", size=NEGATIVE),
    "a size beyond the file": tar_block(b"./a", size=HUGE),
    "a size that is no number": tar_block(b"./a", size=b"what ever 12"),
    "a long name of 1 GiB": tar_block(b"././@LongLink", b"L", size=b"%011o\0" % (1 << 30)),
    "a long name upwards": tar_block(b"././@LongLink", b"L", b"../" * 60 + b"evil\0") + tar_block(b"x"),
    "a long link upwards": tar_block(b"././@LongLink", b"K", b"../" * 60 + b"evil\0") + tar_block(b"x", b"2"),
    "a path of 5,000 characters": tar_block(b"././@LongLink", b"L", b"/".join([b"a" * 249] * 20) + b"\0")
    + tar_block(b"x"),
    "a path of 2,000 folders": tar_block(b"././@LongLink", b"L", b"a/" * 2000 + b"a\0") + tar_block(b"x"),
    "2,000 long names in a row": long_names(2000) + tar_block(b"x"),
    "a content that ends early": tar_block(b"./a", size=b"%011o\0" % 5000) + bytes(512),
    "a header with a wrong sum": tar_block(b"./a") + b"x" + tar_block(b"./b")[1:],
    "half a header": tar_block(b"./a") + tar_block(b"./b")[:300],
    "rubbish after a member": tar_block(b"./a") + b"rubbish" * 512,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_packages_name(name: str, tmp_path: Path) -> None:
    end = b"" if name == "half a header" else END
    with pytest.raises(MlpkgError, match=r"guest|/b to /a"):
        layer(tmp_path, deb_of(REFUSED[name] + end))


HARMLESS = {
    "set-user-id": (tar_block(b"./usr/bin/su", mode=0o6755), {"usr/bin/su": 0o755}),
    "the sticky bit of a file": (tar_block(b"./usr/bin/su", mode=0o1755), {"usr/bin/su": 0o755}),
    # As the package says: its content is as hostile as its mode.
    "world-writable": (tar_block(b"./usr/a", mode=0o666), {"usr/a": 0o666}),
    "a shared folder": (tar_block(b"./srv/", b"5", mode=0o3777), {"srv": 0o1777}),
    "a symlink to a system folder": (tar_block(b"./opt/x", b"2", target=b"/etc"), {"opt/x": 0o777}),
    "a name that is not UTF-8": (tar_block(b"./usr/\xff\xfe"), {"usr/\udcff\udcfe": 0o644}),
    "a backslash": (tar_block(b"./usr/..\\..\\evil"), {"usr/..\\..\\evil": 0o644}),
    "a name of 4,000 characters": (
        tar_block(b"././@LongLink", b"L", b"./" + b"/".join([b"a" * 199] * 20) + b"\0") + tar_block(b"x"),
        {"/".join(["a" * 199] * 20): 0o644},
    ),
    "no end": (tar_block(b"./usr/a"), {"usr/a": 0o644}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, tmp_path: Path) -> None:
    data, wanted = HARMLESS[name]
    found = check_layer(layer(tmp_path, deb_of(data + (b"" if name == "no end" else END))))
    assert {path: found[path].mode for path in wanted} == wanted


def test_a_layer_of_links_and_the_base_keeps_to_its_root(tmp_path: Path) -> None:
    """Files below the folders that the base makes links of go where the links lead, not through them."""
    data = joined(tar_block(f"./{path}/x".encode()) for path in ("bin", "lib", "lib64", "sbin", "var/run"))
    found = check_layer(layer(tmp_path, deb_of(data + END), with_base=True))
    assert {"usr/bin/x", "usr/lib/x", "usr/lib64/x", "usr/sbin/x", "run/x"} <= found.keys()


WRAPPED = {
    "a member of negative size": b"!<arch>\n" + ar_header("debian-binary", "-60"),
    "a step back of one member": ar(FORMAT) + ar_header("control.tar", "-120"),
    "a member beyond the file": ar(FORMAT, CONTROL_TAR) + ar_header("data.tar", "999999999"),
    "a size that is no number": ar(FORMAT) + ar_header("control.tar", "ten"),
    "no magic": ar(FORMAT, CONTROL_TAR)[:66] + b"xx" + ar(FORMAT, CONTROL_TAR)[68:],
    "no data": ar(FORMAT, CONTROL_TAR),
    "no control": ar(FORMAT, ("data.tar", END)),
    "two controls": ar(FORMAT, CONTROL_TAR, CONTROL_TAR, ("data.tar", END)),
    "two data of different packing": ar(FORMAT, CONTROL_TAR, ("data.tar", END), ("data.tar.xz", b"")),
    "a data of another name": ar(FORMAT, CONTROL_TAR, ("data.evil", END)),
    "zstd": ar(FORMAT, CONTROL_TAR, ("data.tar.zst", b"(\xb5/\xfd")),
    "an empty file": b"",
    "torn xz": ar(FORMAT, CONTROL_TAR, ("data.tar.xz", lzma.compress(tar_block(b"./a") + END)[:-60])),
    "no xz": ar(FORMAT, CONTROL_TAR, ("data.tar.xz", b"rubbish")),
    "torn gzip": ar(FORMAT, CONTROL_TAR, ("data.tar.gz", zeros_gzip(0, tar_block(b"./a"))[:40])),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_odd_outer_archives(name: str, tmp_path: Path) -> None:
    with pytest.raises(MlpkgError, match="guest"):
        layer(tmp_path, WRAPPED[name])


@pytest.mark.parametrize(
    "control",
    [
        CONTROL.replace(b"guest\n", b"openssl\n", 1),
        CONTROL.replace(b"Version: 1", b"Version: 2"),
        CONTROL.replace(b"amd64", b"arm64"),
        b"",
        b"\xff" * 600,
        CONTROL.partition(b"Version")[0] + b"\n" + CONTROL,
    ],
)
def test_a_control_file_about_another_package(control: bytes, tmp_path: Path) -> None:
    """Scanners believe it: it must be what the lock says."""
    with pytest.raises(MlpkgError, match=r"guest: pool/guest\.deb says of itself"):
        layer(tmp_path, deb_of(tar_block(b"./usr/a") + END, control=control))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_what_is_unpacked_is_counted(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debs, "unpacked_limit", lambda _: 1 << 20)
    data = tar_block(b"./a", size=b"%011o\0" % (8 << 20)) + bytes(8 << 20)
    packed = {"": data, ".gz": zeros_gzip(0, data), ".xz": lzma.compress(data)}[suffix]
    with pytest.raises(MlpkgError, match=r"guest: pool/guest\.deb unpacks to more than 1048576 bytes"):
        layer(tmp_path, deb_of(packed, suffix=suffix))


def test_members_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MEMBERS_LIMIT", 99)
    data = joined(tar_block(f"./f{number}".encode()) for number in range(100))
    with pytest.raises(MlpkgError, match="holds more than 99 files"):
        layer(tmp_path, deb_of(data + END))


_DRAIN = """
import sys
from pathlib import Path
from mlpkg.debian import layer_entries
from mlpkg.digest import sha256
from mlpkg.errors import MlpkgError
from mlpkg.layer import tar_stream
from mlpkg.lockfile import Deb
path = Path(sys.argv[1])
data = path.read_bytes()
deb = Deb("guest", "1", "amd64", "pool/guest.deb", len(data), sha256(data))
del data
size = 0
try:
    for piece in tar_stream(layer_entries([(deb, path)], suite="trixie", with_base=False)):
        size += len(piece)
    print("made")
except MlpkgError as error:
    print(error)
print(size)
"""


def drained(folder: Path, deb: bytes) -> tuple[str, int, int]:
    """What became of it in a process of its own, the layer's bytes until then, and the peak of memory."""
    ((_deb, path),) = placed(folder, deb)
    said, peak = run_child(_DRAIN, path)
    text, size = said.rsplit("\n", 1)
    return text, int(size), peak


def test_an_xz_window_of_1_gib_is_not_made(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    data = lzma.compress(tar_block(b"./a") + END, format=lzma.FORMAT_XZ, filters=filters)
    # The window's size is one byte of the block's header; the sum over the header comes after it.
    with pytest.raises(MlpkgError, match="Memory usage limit"):
        layer(tmp_path, deb_of(data, suffix=".xz"))


def test_a_pax_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    head = tar_block(b"x", b"x", size=b"%011o\0" % (2 << 30))
    text, _size, peak = drained(tmp_path, deb_of(zeros_gzip(2 << 30, head), suffix=".gz"))
    assert "which deb(5) does not allow" in text
    assert peak < 100 << 20


@pytest.mark.long
def test_a_bomb_of_3_gib(tmp_path: Path) -> None:
    head = tar_block(b"./a", size=b"%011o\0" % (7 << 30))
    deb = deb_of(zeros_gzip(3 << 30, head), suffix=".gz")
    assert len(deb) < 10 << 20
    text, size, peak = drained(tmp_path, deb)
    assert f"unpacks to more than {unpacked_limit(len(deb))} bytes" in text
    assert size <= unpacked_limit(len(deb)) < 3 << 30
    assert peak < 100 << 20


@pytest.mark.long
def test_a_million_empty_files(tmp_path: Path) -> None:
    data = joined(tar_block(f"./usr/share/{number}".encode()) for number in range(1_000_000))
    text, _size, peak = drained(tmp_path, deb_of(zeros_gzip(0, data), suffix=".gz"))
    assert "holds more than 250000 files" in text
    assert peak < 400 << 20
