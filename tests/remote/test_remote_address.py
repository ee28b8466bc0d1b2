"""Addresses a user writes, and addresses a registry sends us to."""

from __future__ import annotations

import pytest

from mlpkg.errors import RegistryError, UsageError
from mlpkg.http.address import Origin, is_loopback, redacted
from mlpkg.remote.address import next_url, registry_origin
from mlpkg.remote.session import Session


@pytest.mark.parametrize(
    ("address", "plain_http", "url"),
    [
        ("127.0.0.1:5050", None, "http://127.0.0.1:5050"),
        ("localhost", None, "http://localhost"),
        ("[::1]:5000", None, "http://[::1]:5000"),
        ("127.9.9.9", None, "http://127.9.9.9"),
        ("registry.example", None, "https://registry.example"),
        ("Registry.example:443", None, "https://registry.example"),
        ("registry.example:5000", True, "http://registry.example:5000"),
        ("127.0.0.1:5050", False, "https://127.0.0.1:5050"),
        ("http://registry.example", None, "http://registry.example"),
        ("https://localhost:1/", None, "https://localhost:1"),
        ("docker.io", None, "https://registry-1.docker.io"),
        ("127.0.0.1.example", None, "https://127.0.0.1.example"),
        ("localhost.example", None, "https://localhost.example"),
    ],
)
def test_where_a_registry_is(address: str, plain_http: bool | None, url: str) -> None:
    assert registry_origin(address, plain_http).url == url


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a/b",
        "ftp://a",
        "a b",
        "a?b",
        "a#b",
        "a:port",
        "a:99999",
        "http://",
        "a\\b",
        "[::1",
        "a\n",
        "ä.example",
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError):
        registry_origin(address)


def test_an_address_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as caught:
        registry_origin("ann:s3cret@registry.example")
    assert "s3cret" not in str(caught.value)


def test_an_address_that_contradicts_itself() -> None:
    with pytest.raises(UsageError, match="contradicts"):
        registry_origin("http://registry.example", plain_http=False)


def test_redaction() -> None:
    assert redacted("https://ann:s3cret@a.example:1/x?_state=s") == "https://a.example:1/x?…"
    assert redacted("https://a.example/x@y") == "https://a.example/x@y"


HTTPS = Origin("https", "registry.example", 443)
HTTP = Origin("http", "127.0.0.1", 5050)


@pytest.mark.parametrize(
    ("registry", "location", "expected"),
    [
        (HTTP, "/v2/x", "http://127.0.0.1:5050/v2/x"),
        (HTTP, "http://localhost:9/y", "http://localhost:9/y"),
        (HTTPS, "https://cdn.example/z?sig=1", "https://cdn.example/z?sig=1"),
        (HTTPS, "http://registry.example/up?s=1", "https://registry.example/up?s=1"),
        (HTTPS, "?page=2", "https://registry.example/v2/?page=2"),
    ],
)
def test_where_it_may_send_us(registry: Origin, location: str, expected: str) -> None:
    assert next_url(f"{registry.url}/v2/", location, registry) == expected


@pytest.mark.parametrize(
    "location",
    [
        "http://cdn.example/z",
        "file:///etc/passwd",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://localhost:8443/x",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "gopher://x",
        "https://user:s3cret@/x",
        "https://a:port/",
        "https://cdn.example/a b",
        "https://cdn.example/ü",
        "//[cdn.example/",
    ],
)
def test_where_it_may_not(location: str) -> None:
    with pytest.raises(RegistryError) as caught:
        next_url(f"{HTTPS.url}/v2/", location, HTTPS)
    assert "s3cret" not in str(caught.value)


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "LOCALHOST", "a.localhost", "localhost.")] == [
        True
    ] * 5
    assert [is_loopback(host) for host in ("128.0.0.1", "10.0.0.1", "localhost.example", "")] == [False] * 4


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inner.example")
    proxy_for = Session(HTTPS, None, None).transport.settings.proxy_for
    assert proxy_for(HTTPS) == "http://proxy.example:3128"
    assert proxy_for(Origin("https", "inner.example", 443)) == ""
    assert proxy_for(Origin("https", "127.0.0.1", 443)) == ""
    assert proxy_for(Origin("http", "registry.example", 80)) == ""
