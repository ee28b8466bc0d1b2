"""From .debs to layer entries: what is kept, moved, made and refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mlpkg.debian import layer_entries
from mlpkg.digest import sha256
from mlpkg.errors import DigestMismatch, LockError, MlpkgError
from mlpkg.layer import tar_stream
from mlpkg.lockfile import Deb

from .archive import Item, Source, deb_bytes, folder, link, locked

Layer = dict[str, tarfile.TarInfo]


def placed(tmp_path: Path, *sources: Source) -> list[tuple[Deb, Path]]:
    """The packages' files in a folder, with what a lock says of them."""
    found = []
    for source in sources:
        path = tmp_path / f"{source.name}.deb"
        path.write_bytes(deb_bytes(source))
        found.append((locked(source), path))
    return found


def layer_bytes(tmp_path: Path, *sources: Source, suite: str = "trixie", with_base: bool = False) -> bytes:
    return b"".join(tar_stream(layer_entries(placed(tmp_path, *sources), suite=suite, with_base=with_base)))


def listing(data: bytes) -> Layer:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar}


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def hello(*items: Item, name: str = "hello", **fields: str) -> Source:
    return Source(name, items=items, **fields)  # type: ignore[arg-type]


def test_files_folders_and_links_with_owner_root_and_one_time(tmp_path: Path) -> None:
    data = layer_bytes(
        tmp_path,
        hello(
            folder("./"),
            folder("./usr/"),
            folder("./usr/bin/"),
            Item("./usr/bin/hello", b"program", 0o4755),
            link("./usr/bin/hi", "hello"),
            Item("./usr/bin/hullo", kind=tarfile.LNKTYPE, target="./usr/bin/hello", mode=0o4755),
            folder("./var/cache/", 0o2775),
            Item("./etc/secret", b"x", 0o640),
        ),
    )
    found = listing(data)
    assert found["usr/bin/hello"].mode == 0o755, "set-user-id is dropped"
    assert content(data, "usr/bin/hello") == b"program"
    assert found["usr/bin/hi"].linkname == "hello"
    assert (found["usr/bin/hullo"].islnk(), found["usr/bin/hullo"].linkname) == (True, "usr/bin/hello")
    assert found["var/cache"].mode == 0o775
    assert found["etc/secret"].mode == 0o640
    assert {(info.uid, info.gid, info.mtime) for info in found.values()} == {(0, 0, 315532801)}


def test_the_control_stanza_is_kept_for_scanners(tmp_path: Path) -> None:
    data = layer_bytes(tmp_path, hello())
    assert content(data, "var/lib/dpkg/status.d/hello") == hello().control.encode()


def test_the_same_packages_make_the_same_bytes_and_their_size_is_known(tmp_path: Path) -> None:
    source = hello(Item("./usr/lib/a", b"x" * 3_000_000))
    first = layer_bytes(tmp_path, source, with_base=True)
    assert layer_bytes(tmp_path, source, with_base=True) == first


def test_the_entries_never_change(tmp_path: Path) -> None:
    source = hello(
        folder("./bin/"),
        Item("./bin/hello", b"program", 0o4755),
        link("./usr/bin/hi", "/bin/hello"),
        Item("./usr/share/doc/hello/copyright", b"free"),
        Item("./usr/share/man/man1/hello.1", b"left out"),
        Item("./usr/share/ca-certificates/a.crt", b"A"),
    )
    # Another digest here means: locked Debian layers no longer fit. Raise mlpkg.formats.DEBIAN with it.
    assert (
        sha256(layer_bytes(tmp_path, source, with_base=True))
        == "sha256:b4c6e2e2e07d2771ac2686d3d3965c77f8d8e1616f2597809dcc037421e50fd2"
    )


@pytest.mark.parametrize(
    "path",
    [
        "usr/share/man/man1/hello.1.gz",
        "usr/share/locale/de/LC_MESSAGES/hello.mo",
        "usr/share/doc/hello/changelog.gz",
        "usr/share/doc/hello/examples/copyright.py",
        "usr/share/lintian/overrides/hello",
        "usr/lib/python3.13/test/support/__init__.py",
        "usr/lib/python3.13/lib-dynload/_testcapi.cpython-313-x86_64-linux-gnu.so",
        "usr/lib/x86_64-linux-gnu/gconv/EUC-JP.so",
    ],
)
def test_left_out(path: str, tmp_path: Path) -> None:
    found = listing(layer_bytes(tmp_path, hello(Item(f"./{path}"))))
    assert set(found) == {
        "var",
        "var/lib",
        "var/lib/dpkg",
        "var/lib/dpkg/status.d",
        "var/lib/dpkg/status.d/hello",
    }


@pytest.mark.parametrize(
    "path",
    [
        "usr/share/doc/hello/copyright",
        "usr/share/mandarin/x",
        "usr/lib/python3/dist-packages/x/test/y.py",
        "usr/lib/python3.13/unittest/case.py",
        "usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
        "usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so",
        "usr/share/zoneinfo/Europe/Berlin",
    ],
)
def test_kept(path: str, tmp_path: Path) -> None:
    assert path in listing(layer_bytes(tmp_path, hello(Item(f"./{path}"))))


def test_usr_is_merged_whatever_the_packages_hold(tmp_path: Path) -> None:
    old = hello(
        folder("./bin/"),
        Item("./bin/sh", b"1", 0o755),
        folder("./lib/"),
        Item("./lib/x86_64-linux-gnu/libz.so.1.3", b"2"),
        link("./lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.3"),
        Item("./lib/hard", kind=tarfile.LNKTYPE, target="./bin/sh"),
        folder("./lib64/"),
        folder("./var/run/hello/"),
        Item("./var/lock/x"),
    )
    new = hello(link("./bin", "usr/bin"), link("./lib64", "usr/lib64"), folder("./usr/bin/"), name="merged")
    found = listing(layer_bytes(tmp_path, old, new, with_base=True, suite="bookworm"))
    assert {
        name: found[name].linkname for name in ("bin", "sbin", "lib", "lib64", "var/run", "var/lock")
    } == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "var/run": "/run",
        "var/lock": "/run/lock",
    }
    assert found["usr/bin/sh"].mode == 0o755
    assert found["usr/lib/x86_64-linux-gnu/libz.so.1"].linkname == "libz.so.1.3"
    assert found["usr/lib/hard"].linkname == "usr/bin/sh"
    assert {"run/hello", "run/lock/x"} <= found.keys()
    assert not [
        name for name in found if name.startswith(("bin/", "lib/", "lib64/", "var/run/", "var/lock/"))
    ]


def test_a_layer_on_top_makes_no_folder_of_the_bases_links_and_special_folders(tmp_path: Path) -> None:
    items = [folder(f"./{path}/") for path in ("bin", "lib", "tmp", "root", "var/run", "var/tmp")]
    found = listing(layer_bytes(tmp_path, hello(*items, Item("./bin/x"))))
    assert "usr/bin/x" in found
    assert not {"bin", "lib", "tmp", "root", "var/run", "var/tmp"} & found.keys()


def test_what_maintainer_scripts_would_make(tmp_path: Path) -> None:
    base = [
        hello(
            Item("./usr/share/base-passwd/passwd.master", b"root:*:0:0:root:/root:/bin/bash\n"),
            Item("./usr/share/base-passwd/group.master", b"root:*:0:\n"),
            name="base-passwd",
        ),
        hello(
            Item("./usr/share/ca-certificates/mozilla/B.crt", b"BBB"),
            Item("./usr/share/ca-certificates/mozilla/A.crt", b"AAA\n"),
            name="ca-certificates",
        ),
        hello(
            Item("./usr/share/libc-bin/nsswitch.conf", b"hosts: files dns\n"),
            Item("./usr/sbin/ldconfig", mode=0o755),
            Item("./usr/lib/locale/C.utf8/LC_CTYPE"),
            name="libc-bin",
        ),
    ]
    data = layer_bytes(tmp_path, *base, with_base=True)
    found = listing(data)
    assert content(data, "etc/passwd").splitlines() == [
        b"root:*:0:0:root:/root:/bin/bash",
        b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin",
    ]
    assert content(data, "etc/group").splitlines() == [b"root:*:0:", b"nonroot:x:65532:"]
    assert content(data, "etc/ssl/certs/ca-certificates.crt") == b"AAA\nBBB\n"
    assert content(data, "etc/nsswitch.conf") == b"hosts: files dns\n"
    assert found["usr/lib/ssl/cert.pem"].linkname == "/etc/ssl/certs/ca-certificates.crt"
    assert {name: found[name].mode for name in ("tmp", "var/tmp", "home/nonroot")} == dict.fromkeys(
        ("tmp", "var/tmp", "home/nonroot"), 0o1777
    )
    assert "usr/lib/locale/C.utf8/LC_CTYPE" in found
    assert "usr/sbin/ldconfig" not in found


def test_links_that_update_alternatives_would_make(tmp_path: Path) -> None:
    lib = "usr/lib/x86_64-linux-gnu"
    source = hello(
        Item("./usr/bin/mawk"),
        Item(f"./{lib}/blas/libblas.so.3"),
        Item(f"./{lib}/openblas-pthread/libblas.so.3"),
    )
    found = listing(layer_bytes(tmp_path, source))
    assert found["usr/bin/awk"].linkname == "/usr/bin/mawk"
    assert found[f"{lib}/libblas.so.3"].linkname == f"/{lib}/openblas-pthread/libblas.so.3"
    assert "usr/bin/java" not in found


@pytest.mark.parametrize(
    "item",
    [
        Item("../etc/passwd"),
        Item("./usr/../../etc/passwd"),
        Item("/etc/passwd"),
        Item("./usr//bin/x"),
        link("./usr/x", "../../etc"),
        link("./usr/bin/x", "a/../../../../etc"),
        Item("./usr/hard", kind=tarfile.LNKTYPE, target="../../etc/shadow"),
        Item("./usr/hard", kind=tarfile.LNKTYPE, target="./usr/absent"),
        Item("./dev/mem", kind=tarfile.CHRTYPE),
        Item("./run/pipe", kind=tarfile.FIFOTYPE),
    ],
    ids=lambda item: item.path + ("->" + item.target if item.target else ""),
)
def test_members_that_have_no_place_in_an_image(item: Item, tmp_path: Path) -> None:
    with pytest.raises(MlpkgError, match="hello: "):
        layer_bytes(tmp_path, hello(item))


def test_a_file_below_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MlpkgError, match="lies below /opt/x"):
        layer_bytes(tmp_path, hello(link("./opt/x", "/etc"), Item("./opt/x/passwd")))


def test_two_packages_with_one_file(tmp_path: Path) -> None:
    with pytest.raises(MlpkgError, match="other: /usr/bin/x is in another package"):
        layer_bytes(tmp_path, hello(Item("./usr/bin/x")), hello(Item("./bin/x"), name="other"))


def test_a_file_that_is_not_the_locked_one(tmp_path: Path) -> None:
    debs = placed(tmp_path, hello(Item("./usr/a", b"locked")))
    debs[0][1].write_bytes(deb_bytes(hello(Item("./usr/a", b"other!"))))
    with pytest.raises(DigestMismatch, match="hello"):
        b"".join(tar_stream(layer_entries(debs, suite="trixie", with_base=False)))


def test_nothing_of_a_file_is_read_before_its_digest_was_checked(tmp_path: Path) -> None:
    debs = placed(tmp_path, hello(Item("./usr/a", b"locked"), Item("./usr/b", b"locked")))
    debs[0][1].write_bytes(deb_bytes(hello(Item("./usr/a", b"locked"), Item("./usr/b", b"other!"))))
    entries = layer_entries(debs, suite="trixie", with_base=False)
    with pytest.raises(DigestMismatch, match="hello"):
        next(entries)


@pytest.mark.parametrize("cut", [0, 7, 40, 68, 300, -1])
def test_a_torn_file(cut: int, tmp_path: Path) -> None:
    debs = placed(tmp_path, hello(Item("./usr/a", bytes(range(256)) * 64)))
    data = debs[0][1].read_bytes()
    debs[0][1].write_bytes(data[:cut])
    with pytest.raises(MlpkgError, match="hello"):
        b"".join(tar_stream(layer_entries(debs, suite="trixie", with_base=False)))


def test_compression(tmp_path: Path) -> None:
    assert "usr/a" in listing(layer_bytes(tmp_path, hello(Item("./usr/a"), compression="gz")))
    with pytest.raises(MlpkgError, match=r"compressed as '\.zst'"):
        layer_bytes(tmp_path, hello(Item("./usr/a"), compression="zst"))


def test_an_unknown_suite(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="no Debian base of that name: 'sid'"):
        layer_bytes(tmp_path, suite="sid")


def test_a_content_that_is_read_too_late_is_an_error(tmp_path: Path) -> None:
    source = hello(Item("./usr/a", b"a" * 100_000), Item("./usr/b", bytes(range(256)) * 4000))
    entries = list(layer_entries(placed(tmp_path, source), suite="trixie", with_base=False))
    with pytest.raises(MlpkgError, match=r"cannot be unpacked|ends too early"):
        b"".join(tar_stream(entries))
