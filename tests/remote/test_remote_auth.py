"""Challenges, and the credentials a machine already holds."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpkg.errors import RegistryError, UsageError
from mlpkg.http.retry import retry_after_seconds
from mlpkg.http.transport import Reply, Transport
from mlpkg.remote.address import registry_origin
from mlpkg.remote.auth import Authorizer, Challenge, parse_challenges
from mlpkg.remote.client import Registry
from mlpkg.remote.credentials import Credentials, find_credentials
from mlpkg.remote.session import SETTINGS
from tests.fakes.registry import PASSWORD, USER, FakeRegistry
from tests.remote.images import ping


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(value: Any) -> None:
        (tmp_path / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs ``docker-credential-test`` with the given shell text; what it was asked is in ``asked``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def write(script: str) -> None:
        path = folder / "docker-credential-test"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r name; echo "$name" >> {tmp_path}/asked\n{script}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("Basic", [Challenge("basic", {})]),
        (
            'Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/token", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            'Bearer realm="https://a" , error=invalid_token, Basic realm="a \\"quoted\\", name"',
            [
                Challenge("bearer", {"realm": "https://a", "error": "invalid_token"}),
                Challenge("basic", {"realm": 'a "quoted", name'}),
            ],
        ),
        ("", []),
        ("=,=", []),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


@given(st.text(max_size=200))
def test_any_challenge_is_read_without_failing(header: str) -> None:
    parse_challenges(header)


@pytest.mark.parametrize("key", ["127.0.0.1:5050", "http://127.0.0.1:5050", "https://127.0.0.1:5050/v1/"])
def test_auths_of_docker_config(docker_config: Callable[[Any], None], key: str) -> None:
    docker_config({"auths": {"other": {"auth": encoded("x:y")}, key: {"auth": encoded("ann:pa:ss")}}})
    assert find_credentials("127.0.0.1:5050") == Credentials("ann", "pa:ss")
    assert find_credentials("127.0.0.1:5051") is None


def test_docker_hub_has_its_own_key(docker_config: Callable[[Any], None]) -> None:
    docker_config({"auths": {"https://index.docker.io/v1/": {"auth": encoded("ann:secret")}}})
    assert find_credentials(registry_origin("docker.io").address) == Credentials("ann", "secret")


def test_an_identity_token(docker_config: Callable[[Any], None]) -> None:
    docker_config({"auths": {"r.example": {"auth": encoded("ann:"), "identitytoken": "tok"}}})
    assert find_credentials("r.example") == Credentials("ann", "", "tok")


def test_the_podman_file_comes_second(
    docker_config: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_config({"auths": {"one": {"auth": encoded("docker:1")}, "two": {}}})
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {"one": {"auth": encoded("podman:1")}, "two": {"auth": encoded("podman:2")}}})
    )
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert find_credentials("one") == Credentials("docker", "1")
    assert find_credentials("two") == Credentials("podman", "2")


def test_a_helper_of_one_registry(
    docker_config: Callable[[Any], None], helper: Callable[[str], None], tmp_path: Path
) -> None:
    helper("""echo '{"ServerURL":"r.example","Username":"ann","Secret":"s3"}'""")
    docker_config({"credHelpers": {"r.example": "test"}, "auths": {"other": {"auth": encoded("x:y")}}})
    assert find_credentials("r.example") == Credentials("ann", "s3")
    assert find_credentials("other") == Credentials("x", "y")
    assert (tmp_path / "asked").read_text() == "r.example\n"


def test_a_store_that_has_nothing_leaves_the_file(
    docker_config: Callable[[Any], None], helper: Callable[[str], None]
) -> None:
    helper("echo 'credentials not found in native keychain'; exit 1")
    docker_config({"credsStore": "test", "auths": {"r.example": {"auth": encoded("ann:file")}}})
    assert find_credentials("r.example") == Credentials("ann", "file")


def test_a_helper_with_an_identity_token(
    docker_config: Callable[[Any], None], helper: Callable[[str], None]
) -> None:
    helper("""echo '{"Username":"<token>","Secret":"tok"}'""")
    docker_config({"credsStore": "test"})
    assert find_credentials("r.example") == Credentials("", "", "tok")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'no key ring'; exit 1", "no key ring"),
        ("echo 'not json but with s3cret'", "not understood"),
        ("""echo '{"Username": 5, "Secret": "s3cret"}'""", "not understood"),
        ("sleep 5", "no answer in"),
    ],
)
def test_helpers_that_fail(
    docker_config: Callable[[Any], None],
    helper: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    message: str,
) -> None:
    monkeypatch.setattr("mlpkg.remote.credentials.HELPER_TIMEOUT", 0.5)
    helper(script)
    docker_config({"credsStore": "test"})
    with pytest.raises(UsageError, match=message) as caught:
        find_credentials("r.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "", 5, None, "-x"])
def test_a_helper_name_that_is_no_name(docker_config: Callable[[Any], None], name: object) -> None:
    docker_config({"credHelpers": {"r.example": name}})
    if name:
        with pytest.raises(UsageError, match="not the name"):
            find_credentials("r.example")
    else:
        assert find_credentials("r.example") is None


def test_a_helper_that_is_not_there(docker_config: Callable[[Any], None]) -> None:
    docker_config({"credsStore": "absent-on-this-machine"})
    with pytest.raises(UsageError, match="docker-credential-absent-on-this-machine: cannot be run") as caught:
        find_credentials("r.example")
    assert "credsStore" in caught.value.hint


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r.example": {"auth": "!s3cret"}}}', "[" * 100_000])
def test_a_config_that_cannot_be_used(docker_config: Callable[[Any], None], text: str) -> None:
    docker_config(text)
    with pytest.raises(UsageError, match=r"config\.json") as caught:
        find_credentials("r.example")
    assert "s3cret" not in str(caught.value)


def test_a_broken_store_does_not_matter_where_nobody_asks(
    docker_config: Callable[[Any], None], fake: FakeRegistry
) -> None:
    docker_config({"credsStore": "absent-on-this-machine"})
    with Registry(fake.address) as registry:
        ping(registry)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_docker_config_is_used_when_asked(docker_config: Callable[[Any], None], auth: Any) -> None:
    with FakeRegistry(auth).serving() as fake:
        docker_config({"auths": {fake.address: {"auth": encoded(f"{USER}:{PASSWORD}")}}})
        with Registry(fake.address) as registry:
            ping(registry)


def test_an_identity_token_is_exchanged() -> None:
    with FakeRegistry("bearer").serving() as fake:
        with Registry(fake.address, Credentials("", "", fake.identity_token)) as registry:
            assert registry.tags("a/b") == []
        assert fake.token_requests[0]["grant_type"] == ["refresh_token"]
        with (
            Registry(fake.address, Credentials("", "", "wr0ng")) as registry,
            pytest.raises(RegistryError) as caught,
        ):
            registry.tags("a/b")
        assert caught.value.status == 401
        assert "wr0ng" not in str(caught.value)


def test_credentials_never_go_over_plain_http_to_another_machine() -> None:
    origin = registry_origin("registry.example", plain_http=True)
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"", origin.url)
    with closing(Transport(SETTINGS)) as transport:
        authorizer = Authorizer(transport, origin, Credentials("ann", "s3cret"))
        with pytest.raises(RegistryError, match="plain http") as caught:
            authorizer.renew(challenge, (), None)
    assert "s3cret" not in str(caught.value)


def test_secrets_do_not_show() -> None:
    assert "s3cret" not in repr(Credentials("ann", "s3cret", "s3cret"))


def test_retry_after() -> None:
    assert retry_after_seconds("7", 0) == 7
    assert retry_after_seconds("Thu, 01 Jan 1970 00:01:40 GMT", 40) == 60
    assert retry_after_seconds("Thu, 01 Jan 1970 00:00:10 GMT", 40) == 0
    assert retry_after_seconds("soon", 0) is None
