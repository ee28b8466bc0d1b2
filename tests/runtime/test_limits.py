"""Every limit of package.toml's [server] at its edges: what the spec takes, the server starts with, and only that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.plan import servers
from mlpkg.runtime import limits, settings
from mlpkg.spec.model import PackageSpec
from mlpkg.spec.parse import parse_package

from .serving import Launch, serving, wait_for_exit

ECHO = "def init(): pass\ndef run(data): return data\n"
HEAD = '[package]\nname = "a"\n[entry]\nscript = "score.py"\n'
DAY = 86400

TAKEN = [
    *[f"port = {port}" for port in limits.PORT],
    *[f"workers = {count}" for count in limits.WORKERS],
    *[f"max_body = {size}" for size in limits.MAX_BODY],
    'max_body = "2GiB"',
    "timeout = 0.0001",
    f"timeout = {DAY}",
    'cors_origins = ["*"]',
    'cors_origins = ["http://a.example:8080", "app+x.y-z://host", "https://xn--bcher-kva.example"]',
]
REFUSED = [
    *[f"{key} = {value}" for key, (low, high) in (
        ("port", limits.PORT), ("workers", limits.WORKERS), ("max_body", limits.MAX_BODY)
    ) for value in (low - 1, high + 1)],
    'max_body = "2049MiB"',
    "timeout = 0",
    f"timeout = {DAY}.5",
    'cors_origins = ["http://["]',
    'cors_origins = ["http://a(b"]',
    'cors_origins = ["http://.*"]',
    'cors_origins = ["http://a.example$"]',
    'cors_origins = ["http://[::1]:8080"]',
]  # fmt: skip

NOT_STARTED = {"port = 1", "workers = 1024"}
"""A process for each would need root, or the memory of 1,024 workers: only the settings are read."""


def parsed(line: str) -> PackageSpec | None:
    return parse_package(f"{HEAD}[server]\n{line}\n", shown="package.toml")[0]


@pytest.mark.parametrize("line", TAKEN)
def test_what_the_spec_takes_the_server_takes(line: str) -> None:
    spec = parsed(line)
    assert spec is not None
    read = settings.from_environment(servers.settings(spec))
    server = spec.server
    assert (read.port, read.workers, read.max_body) == (server.port, server.workers, server.max_body)
    assert read.timeout_ms == max(1, server.timeout * 1000)
    assert read.cors_origins == server.cors_origins


@pytest.mark.parametrize("line", [line for line in TAKEN if line not in NOT_STARTED])
def test_what_the_spec_takes_the_server_starts_with(line: str, launch: Launch, tmp_path: Path) -> None:
    spec = parsed(line)
    assert spec is not None
    (tmp_path / "score.py").write_text(ECHO)
    environment: Mapping[str, str] = {**servers.settings(spec), "MLPKG_GRACE": "1"}
    with serving(replace(launch, environment=environment), "ours", "score.py") as server:
        # Below one millisecond of time or above one byte of body, a request says more about the test than the limit.
        if not line.startswith(("timeout = 0.0", "max_body = 1")) or spec.server.max_body > 1:
            assert server.ask(body=b"x").status in (200, 500 if spec.server.timeout < 1 else 200)


@pytest.mark.parametrize("line", REFUSED)
def test_what_the_spec_refuses(line: str) -> None:
    assert parsed(line) is None


@pytest.mark.parametrize(
    ("variable", "taken"),
    [
        ("MLPKG_PORT", limits.PORT),
        ("WORKER_COUNT", limits.WORKERS),
        ("MLPKG_MAX_BODY", limits.MAX_BODY),
        ("SCORING_TIMEOUT_MS", limits.TIMEOUT_MS),
    ],
)
def test_the_server_refuses_what_lies_beyond(variable: str, taken: limits.Range) -> None:
    for number in taken:
        assert settings.problems({variable: str(number)}) == {}
    for number in (taken.low - 1, taken.high + 1):
        why = settings.problems({variable: str(number)})
        assert why == {variable: f"expected a whole number from {taken.low} to {taken.high}"}


def test_the_longest_timeout_can_be_set(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(ECHO)
    longest = {"SCORING_TIMEOUT_MS": str(limits.TIMEOUT_MS.high)}
    with serving(replace(launch, environment=longest), "ours", "score.py") as server:
        assert server.ask(body=b"x").status == 200


VARIABLES = {
    "MLPKG_MAX_QUEUE": ("0", "-1"),
    "MLPKG_MAX_CONNECTIONS": ("1", "0"),
    "MLPKG_READ_TIMEOUT": ("0.5", "nan"),
    "MLPKG_GRACE": ("0", "-1"),
    "MLPKG_LOG_FORMAT": ("json", "xml"),
    "MLPKG_ACCESS_LOG": ("no", "never"),
    "MLPKG_LENIENT": ("on", "maybe"),
    "HEALTH_PORT": ("65535", "65536"),
    "WORKER_TIMEOUT": ("300", "-5"),
    "AZUREML_DEBUG_PORT": ("0", "70000"),
}
"""Variables that [environment.variables] may give to the server: one value that it takes, one that it refuses."""


def test_every_variable_with_a_limit_is_walked() -> None:
    in_server = {"MLPKG_PORT", "WORKER_COUNT", "MLPKG_MAX_BODY", "SCORING_TIMEOUT_MS", "AML_CORS_ORIGINS"}
    judged = {name for name in settings.VARIABLES if settings.problems({name: "\0[ nonsense"})}
    assert judged - in_server == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_for_the_server_are_checked_in_the_spec(name: str, launch: Launch, tmp_path: Path) -> None:
    good, bad = (
        parse_package(f"{HEAD}[environment.variables]\n{name} = {json.dumps(value)}\n", shown="package.toml")
        for value in VARIABLES[name]
    )
    assert good[0] is not None, good[1]
    assert bad[0] is None
    assert "the server cannot use this value: expected" in str(bad[1][0])
    (tmp_path / "score.py").write_text(ECHO)
    server = replace(launch, environment={name: VARIABLES[name][1]}).start("ours", "score.py")
    assert wait_for_exit(server) == 3
    assert f"{name}=" in server.text


def test_a_custom_servers_variables_are_its_own() -> None:
    text = (
        '[package]\nname = "a"\n[server]\nkind = "custom"\ncommand = ["x"]\n'
        '[environment.variables]\nMLPKG_GRACE = "-1"\n'
    )
    spec, problems = parse_package(text, shown="package.toml")
    assert spec is not None, problems
