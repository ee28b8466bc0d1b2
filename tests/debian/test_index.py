"""Loading an index: what is believed, what is refused, and what is fetched again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, sign

from mlpkg.debian import load_index
from mlpkg.debian.index import RELEASE_LIMIT
from mlpkg.debian.mirror import Keyring
from mlpkg.debian.relation import Relation
from mlpkg.errors import LockError, Unreachable

from .archive import Source, locked
from .conftest import Served

HELLO = Source("hello", "2.10-3", {"Depends": "libc6 (>= 2.36)", "Provides": "greeter (= 2), waver"})


def release_path(served: Served, suite: str = "trixie") -> Path:
    return served.archive.root / f"dists/{suite}/InRelease"


def test_a_signed_index_is_read(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO, Source("other")])
    index = load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    package = index.package("hello")
    assert package is not None
    assert package.deb == locked(HELLO)
    assert package.depends == "libc6 (>= 2.36)"
    assert index.package("hell") is None
    assert [found.name for found in index.providers(Relation("waver"))] == ["hello"]
    assert [found.name for found in index.providers(Relation("greeter", ">=", "2"))] == ["hello"]
    assert not index.providers(Relation("greeter", ">=", "3"))
    assert not index.providers(Relation("waver", ">=", "1"))
    assert [archive.suite for archive in index.archives] == ["trixie"]
    assert index.missing == ("trixie-security", "trixie-updates")


def test_the_newest_version_of_all_suites_wins(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [Source("a", "1:1.0-1"), Source("b", "1.10-1")])
    served.archive.publish("trixie-updates", [Source("a", "2.0-1")])
    served.archive.publish("trixie-security", [Source("b", "1.10-1+deb13u1")])
    index = load_index(served.mirrors(security=served.address), "trixie", "amd64", tmp_path / "cache")
    assert index.missing == ()
    versions = {name: package.version for name in "ab" if (package := index.package(name))}
    assert versions == {"a": "1:1.0-1", "b": "1.10-1+deb13u1"}


def test_a_second_load_fetches_the_release_file_only(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    first = load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    served.asked.clear()
    second = load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    assert served.asked == ["/dists/trixie/InRelease", "/dists/trixie-updates/InRelease"]
    assert second == first


def test_a_cached_index_that_went_bad_is_fetched_again(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    (kept,) = (tmp_path / "cache/sha256").iterdir()
    kept.write_bytes(bytes(kept.stat().st_size))
    assert load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache").package("hello")


@pytest.mark.parametrize(("by_hash", "suffix"), [(False, ".xz"), (True, ".gz"), (False, ".gz")])
def test_older_mirror_layouts(served: Served, tmp_path: Path, *, by_hash: bool, suffix: str) -> None:
    served.archive.publish("bookworm", [HELLO], by_hash=by_hash, suffix=suffix)
    assert load_index(served.mirrors(), "bookworm", "amd64", tmp_path / "cache").package("hello")


def test_a_mirror_in_a_folder(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    mirrors = served.mirrors(main=served.archive.root.as_uri())
    assert load_index(mirrors, "trixie", "amd64", tmp_path / "cache").package("hello")
    assert not served.asked


def test_a_signature_by_another_key_is_refused(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO], key=Tsk.generate(user_id="Mallory <m@example.org>"))
    with pytest.raises(LockError, match="not signed by a key of test keyring") as caught:
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    assert f"{served.address}/dists/trixie/InRelease" in str(caught.value)
    assert "backtrace" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_a_changed_release_file_is_refused(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    path = release_path(served)
    path.write_bytes(path.read_bytes().replace(b"Origin: Test", b"Origin: Tost"))
    with pytest.raises(LockError, match="not signed by"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")


@pytest.mark.parametrize("text", [b"", b"Suite: trixie\nSHA256:\n", b"<html>not found</html>"])
def test_an_unsigned_release_file_is_refused(served: Served, tmp_path: Path, text: bytes) -> None:
    served.archive.publish("trixie", [HELLO])
    release_path(served).write_bytes(text)
    with pytest.raises(LockError, match="InRelease: not signed by"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")


def test_text_outside_the_signature_counts_for_nothing(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO], head={"Codename": "sid", "Suite": "unstable"})
    path = release_path(served)
    signed = path.read_bytes()
    path.write_bytes(signed + b"\nCodename: trixie\n")
    with pytest.raises(LockError, match="is about sid, not about trixie"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    path.write_bytes(b"Codename: trixie\n\n" + signed)
    with pytest.raises(LockError, match="InRelease: not signed by"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")


@pytest.mark.parametrize(
    "listed", ["\n abc 5 x", f"\n {'a' * 64} five x", f"\n {'a' * 64} 5", f"{'a' * 64} 5 x", "none"]
)
def test_a_release_file_whose_list_makes_no_sense(served: Served, tmp_path: Path, listed: str) -> None:
    text = f"Suite: stable\nCodename: trixie\nSHA256: {listed}\n"
    signed = sign(served.archive.key.signer(), text.encode(), mode=SignatureMode.CLEAR)
    served.archive.put("dists/trixie/InRelease", signed)
    with pytest.raises(LockError, match="InRelease: its list of files makes no sense"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")


def test_a_release_file_without_end_is_not_read_to_its_end(served: Served, tmp_path: Path) -> None:
    served.archive.put("dists/trixie/InRelease", bytes(RELEASE_LIMIT + 1))
    with pytest.raises(LockError, match=f"InRelease: longer than {RELEASE_LIMIT} bytes"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")


def test_a_changed_package_index_is_refused(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO], by_hash=False)
    path = served.archive.root / "dists/trixie/main/binary-amd64/Packages.xz"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(LockError, match=r"binary-amd64/Packages.xz: .* not the"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    assert not list((tmp_path / "cache/sha256").iterdir())


def test_an_expired_release_is_refused_but_for_snapshots(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO], head={"Valid-Until": "Sat, 28 Nov 2020 00:53:02 UTC"})
    with pytest.raises(LockError, match="expired on Sat, 28 Nov 2020"):
        load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    before = datetime(2020, 11, 27, tzinfo=UTC)
    index = load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache", now=before)
    snapshot = served.mirrors(snapshot="20201101T000000Z")
    assert load_index(snapshot, "trixie", "amd64", tmp_path / "cache") == index


def test_a_suite_or_architecture_that_is_not_there(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    with pytest.raises(LockError, match="dists/bookworm/InRelease"):
        load_index(served.mirrors(), "bookworm", "amd64", tmp_path / "cache")
    with pytest.raises(LockError, match="lists no packages for arm64"):
        load_index(served.mirrors(), "trixie", "arm64", tmp_path / "cache")
    with pytest.raises(LockError, match="no Debian base for 'sparc'"):
        load_index(served.mirrors(), "trixie", "sparc", tmp_path / "cache")


def test_a_named_security_archive_must_answer_a_guessed_one_need_not(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    guessed = served.mirrors(security=f"{served.address}/none", security_required=False)
    assert "trixie-security" in load_index(guessed, "trixie", "amd64", tmp_path / "cache").missing
    with pytest.raises(LockError, match="trixie-security/InRelease"):
        load_index(served.mirrors(security=f"{served.address}/none"), "trixie", "amd64", tmp_path / "cache")


def test_a_mirror_that_does_not_answer_is_unreachable(served: Served, tmp_path: Path) -> None:
    # Port 9 (discard) is closed; a password in the environment's proxy must not be shown.
    mirrors = served.mirrors(proxies={"http": "http://me:s3cret@127.0.0.1:9"})
    with pytest.raises(Unreachable) as caught:
        load_index(mirrors, "trixie", "amd64", tmp_path / "cache")
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_file_that_is_no_keyring(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [HELLO])
    mirrors = served.mirrors(keyrings=(Keyring("odd.gpg", b"not a key"),))
    with pytest.raises(LockError, match=r"odd\.gpg"):
        load_index(mirrors, "trixie", "amd64", tmp_path / "cache")


def test_an_entry_that_leaves_the_mirror_is_refused(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", [Source("evil", version="/../../../../x")])
    index = load_index(served.mirrors(), "trixie", "amd64", tmp_path / "cache")
    with pytest.raises(LockError, match="outside the mirror"):
        index.package("evil")
