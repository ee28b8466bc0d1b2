"""The client against real servers on loopback: redirects, logins, proxies, insecure hosts, limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.errors import LockError, Unreachable, UsageError
from mlpkg.http import retry
from mlpkg.http.retry import Overloaded
from mlpkg.http.settings import HttpSettings
from mlpkg.http.transport import BODY_LIMIT, Reply, Transport
from tests.fakes.web import Answer, Web, certificate

SETTINGS = HttpSettings(service="service", hint="look there", ca_hint="name its CA", refused=LockError)
LOGIN = "Basic bWU6cHc="


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().serving() as server:
        yield server


@contextmanager
def asked(url: str, settings: HttpSettings = SETTINGS, method: str = "GET") -> Iterator[Reply]:
    with closing(Transport(settings)) as transport, transport.stream(method, url, login=LOGIN) as answer:
        yield transport.whole(*answer)


def test_a_login_stays_with_its_origin_along_redirects(web: Web) -> None:
    with Web().serving() as other:
        web.answers = {
            "/a": Answer(302, {"Location": "/b"}),
            "/b": Answer(307, {"Location": f"{other.url}/c"}),
            "/d": Answer(200, body=b"there"),
        }
        other.answers = {"/c": Answer(301, {"Location": f"{web.url}/d"})}
        with asked(f"{web.url}/a") as reply:
            assert (reply.status, reply.body, reply.url) == (200, b"there", f"{web.url}/d")
        assert [seen.headers.get("authorization") for seen in web.seen] == [LOGIN, LOGIN, LOGIN]
        assert [seen.headers.get("authorization") for seen in other.seen] == [None]


def test_another_port_or_scheme_is_another_origin(web: Web) -> None:
    port = web.url.rpartition(":")[2]
    web.answers = {"/a": Answer(302, {"Location": f"http://localhost:{port}/b"}), "/b": Answer(200)}
    with asked(f"{web.url}/a"):
        assert [seen.headers.get("authorization") for seen in web.seen] == [LOGIN, None]


@pytest.mark.parametrize(
    ("location", "words"),
    [("/again", "more than 5 redirects"), ("file:///etc/passwd", "sends us to"), ("//[x/", "sends us to")],
)
def test_redirects_end(web: Web, location: str, words: str) -> None:
    web.answers = {"/again": Answer(302, {"Location": location})}
    with pytest.raises(LockError, match=words), asked(f"{web.url}/again"):
        pass
    assert len(web.seen) <= 6


def test_what_changes_something_is_not_sent_elsewhere(web: Web) -> None:
    web.answers = {"/a": Answer(307, {"Location": "/b"}), "/b": Answer(200)}
    with asked(f"{web.url}/a", method="POST") as reply:
        assert reply.status == 307


def test_an_answer_without_end_is_refused(web: Web) -> None:
    web.answers = {"/a": Answer(200, body=bytes(BODY_LIMIT + 1))}
    with pytest.raises(LockError, match="more than 4194304 bytes"), asked(f"{web.url}/a"):
        pass


def test_a_proxy_is_asked_for_the_whole_address(web: Web) -> None:
    web.answers = {"http://mirror.example/a?b=c": Answer(200, body=b"passed on")}
    proxied = replace(SETTINGS, proxies={"http": web.url.replace("://", "://me:p%40w@")})
    with asked("http://mirror.example/a?b=c", proxied) as reply:
        assert reply.body == b"passed on"
    (seen,) = web.seen
    assert seen.headers["proxy-authorization"] == "Basic bWU6cEB3"
    assert seen.headers["host"] == "mirror.example"


def test_a_proxy_that_does_not_answer_is_named_without_its_password() -> None:
    settings = replace(SETTINGS, proxies={"http": "http://me:s3cret@127.0.0.1:9"})
    with (
        pytest.raises(Unreachable, match=r"its proxy http://127\.0\.0\.1:9 does not answer") as caught,
        asked("http://mirror.example/a", settings),
    ):
        pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://me:s3cret@one:1", "http://me:s3cret@one:port", "http://"])
def test_a_proxy_that_cannot_be(proxy: str) -> None:
    settings = replace(SETTINGS, proxies={"http": proxy})
    with (
        pytest.raises(UsageError, match="the proxy that is named for the service") as caught,
        asked("http://mirror.example/a", settings),
    ):
        pass
    assert "s3cret" not in str(caught.value)


def test_a_certificate_nobody_signed_and_a_host_that_needs_none(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    with Web().serving(pair) as web:
        web.answers = {"/a": Answer(200, body=b"there")}
        with pytest.raises(Unreachable, match="no TLS connection") as caught, asked(f"{web.url}/a"):
            pass
        assert caught.value.hint == "name its CA"
        for named in ("localhost", web.host, "*"):
            with asked(f"{web.url}/a", replace(SETTINGS, insecure_hosts=(named,))) as reply:
                assert reply.body == b"there"
        with asked(f"{web.url}/a", replace(SETTINGS, ca_file=pair[0])) as reply:
            assert reply.body == b"there"
        with pytest.raises(Unreachable), asked(f"{web.url}/a", replace(SETTINGS, insecure_hosts=("other",))):
            pass


def test_a_busy_service_is_waited_for_as_long_as_it_asks(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)
    web.answers = {"/a": Answer(503, {"Retry-After": "0"})}
    with closing(Transport(replace(SETTINGS, attempts=3))) as transport:

        def step() -> None:
            with transport.stream("GET", f"{web.url}/a") as (head, _):
                raise head.failure("it is busy", LockError, Overloaded, hint="wait")

        with pytest.raises(Overloaded) as caught:
            transport.backoff.run(step)
    assert len(web.seen) == 3
    assert (caught.value.exit_code, caught.value.hint, caught.value.retry_after) == (4, "wait", 0.0)
    assert type(Reply(404, {}, b"", web.url).failure("gone", LockError, Overloaded)) is LockError
