"""Sizes of wheels: asked for as uv asks, and read from what the server tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpkg.errors import LockError, Unreachable
from mlpkg.http import retry
from mlpkg.wheels import size
from mlpkg.wheels.size import wheel_sizes
from mlpkg.wheels.sources import WheelSources
from tests.fakes.web import Answer, Web, certificate

PATH = "/files/a-1-py3-none-any.whl"
WHEEL = bytes(12345)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.01)
    for name in ("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "UV_INSECURE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().serving() as server:
        yield server


def found(url: str, sources: WheelSources | None = None) -> int:
    with wheel_sizes(sources or WheelSources()) as size_of:
        return size_of(url)


@pytest.mark.parametrize(
    ("answers", "methods"),
    [
        ({PATH: Answer(body=WHEEL)}, ["HEAD"]),
        ({f"HEAD {PATH}": Answer(405), PATH: Answer(body=WHEEL)}, ["HEAD", "GET"]),
        ({f"HEAD {PATH}": Answer(403), PATH: Answer(body=WHEEL)}, ["HEAD", "GET"]),
        ({f"HEAD {PATH}": Answer(body=b""), PATH: Answer(body=WHEEL)}, ["HEAD", "GET"]),
        ({PATH: Answer(body=WHEEL, has_length=False)}, ["HEAD", "GET"]),
        (
            {
                f"HEAD {PATH}": Answer(501),
                PATH: Answer(206, {"Content-Range": f"bytes 0-0/{len(WHEEL)}"}, WHEEL[:1]),
            },
            ["HEAD", "GET"],
        ),
    ],
)
def test_what_servers_tell(web: Web, answers: dict[str, Answer], methods: list[str]) -> None:
    web.answers = answers
    assert found(web.url + PATH) == len(WHEEL)
    assert [seen.method for seen in web.seen] == methods
    assert web.seen[-1].headers.get("range") == ("bytes=0-0" if methods[-1] == "GET" else None)


@pytest.mark.parametrize(
    "answer",
    [Answer(404), Answer(206, {"Content-Range": "bytes */5"}), Answer(302, {"Location": "ftp://a/b"})],
)
def test_what_cannot_be_learned(web: Web, answer: Answer) -> None:
    web.answers = {PATH: answer}
    with pytest.raises(LockError):
        found(web.url + PATH)


def test_a_body_without_end_is_not_read_to_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "LIMIT", 1000)
    web.answers = {PATH: Answer(body=WHEEL, has_length=False)}
    with pytest.raises(LockError, match="more than 1000 bytes"):
        found(web.url + PATH)


def test_a_busy_index_is_asked_again(web: Web) -> None:
    busy = iter([Answer(503), Answer(503), Answer(429)])
    web.answer = lambda _: next(busy, Answer(body=WHEEL))
    assert found(web.url + PATH) == len(WHEEL)
    web.answer = lambda _: Answer(503)
    with pytest.raises(Unreachable, match="answers 503 when asked for its size"):
        found(web.url + PATH)


def test_an_index_that_does_not_answer() -> None:
    with pytest.raises(Unreachable, match="the package index does not answer") as caught:
        found("http://127.0.0.1:9" + PATH)
    assert "[python]" in caught.value.hint


def test_an_insecure_host_needs_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = certificate(tmp_path)
    with Web({PATH: Answer(body=WHEEL)}).serving(pair) as web:
        with pytest.raises(Unreachable, match="no TLS connection") as caught:
            found(web.url + PATH)
        assert "ca_file under [python]" in caught.value.hint
        for named in (web.host, "localhost"):
            assert found(web.url + PATH, WheelSources(insecure_hosts=(named,))) == len(WHEEL)
        assert found(web.url + PATH, WheelSources(ca_file=str(pair[0]))) == len(WHEEL)
        monkeypatch.setenv("UV_INSECURE_HOST", f"other.example {web.host}")
        assert found(web.url + PATH) == len(WHEEL)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_also_for_plain_http(web: Web, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    web.answers = {f"http://index.example{PATH}": Answer(body=WHEEL)}
    monkeypatch.setenv(variable, web.url)
    assert found(f"http://index.example{PATH}") == len(WHEEL)
    with Web({PATH: Answer(body=b"direct")}).serving() as index:
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert found(index.url + PATH) == len(b"direct")
    assert len(web.seen) == 1


def test_a_login_is_not_sent_on(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = web.url.rpartition(":")[2]
    web.answers = {
        PATH: Answer(302, {"Location": f"http://localhost:{port}/store"}),
        "/store": Answer(body=WHEEL),
    }
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pw\ndefault login me password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert found(web.url + PATH) == len(WHEEL)
    own = WheelSources(index=web.url.replace("://", "://you:there@"))
    assert found(web.url + PATH, own) == len(WHEEL)
    logins = [seen.headers.get("authorization") for seen in web.seen]
    assert logins == ["Basic bWU6cHc=", None, "Basic eW91OnRoZXJl", None]
