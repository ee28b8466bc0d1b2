"""Fetching locked .debs into the cache."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.debian import fetch_deb, fetch_debs
from mlpkg.debian.apt import Login
from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import sha256
from mlpkg.errors import DigestMismatch, LockError, MlpkgError, Unreachable
from mlpkg.lockfile import Deb
from tests.fakes.web import Answer, Web, certificate

from .archive import Source, deb_bytes, locked
from .conftest import Served

SOURCES = [Source(name, "1:2.0~rc+1-1") for name in ("alpha", "beta", "gamma", "delta", "epsilon")]


def test_files_come_in_the_order_of_the_lock_and_only_once(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    debs = [locked(source) for source in SOURCES]
    seen: list[Deb] = []
    main = threading.get_ident()

    def progress(deb: Deb) -> None:
        assert threading.get_ident() == main
        seen.append(deb)

    paths = fetch_debs(served.mirrors(), debs, tmp_path / "cache", progress=progress)
    assert [path.read_bytes() for path in paths] == [deb_bytes(source) for source in SOURCES]
    assert sorted(deb.name for deb in seen) == sorted(deb.name for deb in debs)
    served.asked.clear()
    assert fetch_debs(served.mirrors(), debs, tmp_path / "cache") == paths
    assert not served.asked
    assert all(path.name in debs[number].digest for number, path in enumerate(paths))


def test_a_bad_cache_entry_is_fetched_again(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    deb = locked(SOURCES[0])
    path = fetch_deb(served.mirrors(), deb, tmp_path / "cache")
    path.write_bytes(b"x" * deb.size)
    assert sha256(fetch_deb(served.mirrors(), deb, tmp_path / "cache").read_bytes()) == deb.digest


def test_a_tampered_file_never_reaches_the_cache(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    deb = locked(SOURCES[0])
    for data in (b"x" * deb.size, b"x", b"x" * (deb.size + 1)):
        served.archive.put(deb.filename, data)
        with pytest.raises(DigestMismatch, match="alpha"):
            fetch_deb(served.mirrors(), deb, tmp_path / "cache")
    assert not list((tmp_path / "cache/sha256").iterdir())


def test_a_busy_mirror_and_a_broken_connection_are_tried_again(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    served.failures[:] = [503, 0]
    fetch_deb(served.mirrors(), locked(SOURCES[0]), tmp_path / "cache")
    assert len(served.asked) == 3


@pytest.mark.parametrize("status", [401, 500])
def test_a_mirror_that_keeps_failing_is_unreachable(served: Served, tmp_path: Path, status: int) -> None:
    served.failures[:] = [status] * 20
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        fetch_deb(served.mirrors(), locked(SOURCES[0]), tmp_path / "cache")


def test_the_security_archive_is_asked_second(served: Served, tmp_path: Path) -> None:
    served.archive.put(f"security/{SOURCES[0].filename}", deb_bytes(SOURCES[0]))
    mirrors = served.mirrors(security=f"{served.address}/security")
    fetch_deb(mirrors, locked(SOURCES[0]), tmp_path / "cache")
    assert [path.partition("/pool")[0] for path in served.asked] == ["", "/security"]


def test_a_file_that_the_mirror_dropped(served: Served, tmp_path: Path) -> None:
    with pytest.raises(LockError, match="no longer on") as caught:
        fetch_deb(served.mirrors(), locked(SOURCES[0]), tmp_path / "cache")
    assert "mlpkg lock --upgrade" in caught.value.hint
    assert "snapshot" in caught.value.hint


def test_a_mirror_in_a_folder(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    mirrors = served.mirrors(main=served.archive.root.as_uri())
    assert fetch_deb(mirrors, locked(SOURCES[0]), tmp_path / "cache").read_bytes() == deb_bytes(SOURCES[0])
    with pytest.raises(LockError, match="no longer on"):
        fetch_deb(
            mirrors, replace(locked(SOURCES[0]), filename="pool/none.deb", digest=sha256(b"")), tmp_path / "c"
        )


def test_a_cache_that_cannot_be_written(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(MlpkgError, match="cannot be written"):
        fetch_deb(served.mirrors(), locked(SOURCES[0]), tmp_path / "cache")


def test_through_a_proxy(served: Served, tmp_path: Path) -> None:
    # A proxy is asked for the whole address, which the test's server takes for a path.
    deb = locked(SOURCES[0])
    served.archive.put(f"http:/mirror.example/debian/{deb.filename}", deb_bytes(SOURCES[0]))
    proxy = served.address.replace("http://", "http://me:pw@")
    mirrors = served.mirrors(main="http://mirror.example/debian", proxies={"http": proxy})
    fetch_deb(mirrors, deb, tmp_path / "cache")
    assert served.asked == [f"http://mirror.example/debian/{deb.filename}"]
    assert served.headers[0]["proxy-authorization"] == "Basic bWU6cHc="


def test_a_login_does_not_follow_to_another_host(tmp_path: Path) -> None:
    deb = locked(SOURCES[0])
    with Web().serving() as web:
        elsewhere = web.url.replace("127.0.0.1", "localhost")
        web.answer = lambda seen: (
            Answer(302, {"Location": f"{elsewhere}/store"})
            if seen.path.startswith("/debian")
            else Answer(body=deb_bytes(SOURCES[0]))
        )
        mirrors = Mirrors(f"{web.url}/debian", None, (), logins=(Login(web.host, "me", "pw"),))
        fetch_deb(mirrors, deb, tmp_path / "cache")
        assert [seen.headers.get("authorization") for seen in web.seen] == ["Basic bWU6cHc=", None]


def test_a_mirror_must_not_send_us_from_https_to_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    with Web(answer=lambda _: Answer(302, {"Location": "http://127.0.0.1:9/"})).serving(pair) as web:
        with pytest.raises(Unreachable, match="sends us from https to"):
            fetch_deb(Mirrors(web.url, None, ()), locked(SOURCES[0]), tmp_path / "cache")
        assert len(web.seen) == 1


def test_a_login_goes_to_its_host_only(served: Served, tmp_path: Path) -> None:
    served.archive.publish("trixie", SOURCES)
    host = served.address.removeprefix("http://")
    fetch_deb(served.mirrors(logins=(Login(host, "me", "pw"),)), locked(SOURCES[0]), tmp_path / "cache")
    fetch_deb(
        served.mirrors(logins=(Login("other.example", "me", "pw"),)), locked(SOURCES[1]), tmp_path / "cache"
    )
    assert [headers.get("authorization") for headers in served.headers] == ["Basic bWU6cHc=", None]
