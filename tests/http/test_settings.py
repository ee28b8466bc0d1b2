"""Proxies and insecure hosts: who is asked through whom."""

from __future__ import annotations

import pytest

from mlpkg.errors import Unreachable
from mlpkg.http.address import url_origin
from mlpkg.http.settings import HttpSettings, environment_proxies

VARIABLES = {"http": ("HTTP_PROXY", "ALL_PROXY"), "https": ("HTTPS_PROXY", "ALL_PROXY")}


def proxy(url: str, **environment: str) -> str:
    proxies = environment_proxies(environment, VARIABLES)
    settings = HttpSettings(service="service", hint="", ca_hint="", refused=Unreachable, proxies=proxies)
    return settings.proxy_for(url_origin(url))


def test_each_scheme_has_its_own_proxy_and_all_the_rest() -> None:
    both = {"HTTP_PROXY": "http://one:1", "ALL_PROXY": "https://all:2"}
    assert proxy("http://a.example/x", **both) == "http://one:1"
    assert proxy("https://a.example/x", **both) == "https://all:2"
    assert proxy("https://a.example/x", HTTP_PROXY="http://one:1") == ""
    assert proxy("https://a.example/x", HTTPS_PROXY="one:1") == "http://one:1"
    assert proxy("https://a.example/x", HTTPS_PROXY="DIRECT") == ""


@pytest.mark.parametrize(
    ("excepted", "direct", "proxied"),
    [
        ("a.example", "a.example", "xa.example"),
        ("a.example", "b.a.example", "b.example"),
        (".a.example, *.b.example", "x.b.example", "b.c.example"),
        ("A.Example", "a.example", "example"),
        ("a.example:81", "a.example:81", "a.example"),
        ("10.0.0.0/8", "10.1.2.3", "11.1.2.3"),
        ("fd00::/8", "[fd00::1]", "[fe00::1]"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("not/anetwork,10.1.2.3", "10.1.2.3", "10.1.2.4"),
    ],
)
def test_what_is_excepted(excepted: str, direct: str, proxied: str) -> None:
    environment = {"HTTP_PROXY": "http://one:1", "NO_PROXY": excepted}
    assert proxy(f"http://{proxied}/x", **environment) == "http://one:1"
    assert proxy(f"http://{direct}/x", **environment) == ""


def test_everything_is_excepted() -> None:
    environment = {"HTTP_PROXY": "http://one:1", "ALL_PROXY": "http://two:2", "no_proxy": "*"}
    assert {proxy(url, **environment) for url in ("http://a.example", "https://10.0.0.1")} == {""}


def test_loopback_is_proxied_where_the_settings_say_so() -> None:
    proxies = {"http": "http://one:1"}
    for is_proxied, expected in ((True, "http://one:1"), (False, "")):
        settings = HttpSettings(
            service="service", hint="", ca_hint="", refused=Unreachable,
            proxies=proxies, is_loopback_proxied=is_proxied,
        )  # fmt: skip
        assert settings.proxy_for(url_origin("http://127.0.0.1:5050/v2/")) == expected


@pytest.mark.parametrize(
    ("named", "url", "expected"),
    [
        ("a.example", "https://a.example:8443/x", True),
        ("a.example", "https://b.a.example/x", False),
        ("a.example:8443", "https://a.example:8443/x", True),
        ("a.example:8443", "https://a.example/x", False),
        ("https://a.example", "https://a.example/x", True),
        ("A.example/", "https://a.example/x", True),
        ("[::1]:8443", "https://[::1]:8443/x", True),
        ("*", "https://any.example/x", True),
        ("", "https://a.example/x", False),
    ],
)
def test_insecure_hosts(named: str, url: str, expected: bool) -> None:
    settings = HttpSettings(
        service="service", hint="", ca_hint="", refused=Unreachable, insecure_hosts=(named,)
    )
    assert settings.is_insecure(url_origin(url)) is expected


def test_the_proxys_password_is_not_shown() -> None:
    settings = HttpSettings(
        service="service",
        hint="",
        ca_hint="",
        refused=Unreachable,
        proxies={"http": "http://me:s3cret@one:1"},
    )
    assert "s3cret" not in repr(settings)
