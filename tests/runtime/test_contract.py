"""The contract: the same scripts and requests against Azure's server and ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .cases import CASES, DIFFERENCES, Case
from .scripts import BROKEN, SCRIPTS
from .serving import Launch, Reply, Running, serving, wait_for_exit

CONTRACT_HEADERS = (
    "content-type",
    "content-length",
    "x-ms-run-function-failed",
    "x-request-id",
    "x-ms-request-id",
    "x-ms-client-request-id",
    "x-ms-run-fn-exec-ms",
    "x-ms-server-version",
    "traceid",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-allow-credentials",
    "vary",
    "allow",
    "location",
    "retry-after",
    "set-cookie",
    "cache-control",
    "x-many",
    "x-a",
)
Pair = tuple[Running, Running]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def pairs(
    runtime_root: Path, oracle_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], Pair]]:
    """Azure's server and ours for a case's script and settings, started when first asked for."""
    running: dict[tuple[str, str], Pair] = {}
    with ExitStack() as stack:

        def pair(case: Case) -> Pair:
            key = (case.script, json.dumps(dict(case.environment)))
            if key not in running:
                folder = tmp_path_factory.mktemp("app")
                (folder / "score.py").write_text(SCRIPTS[case.script])
                (folder / "sibling.py").write_text("VALUE = 'from the sibling'")
                environment = {"AZUREML_MODEL_DIR": str(folder), **case.environment}
                launch = Launch(oracle_python, runtime_root, folder, environment)
                azure = stack.enter_context(serving(launch, "azure", "score.py"))
                running[key] = (azure, stack.enter_context(serving(launch, "ours", "score.py")))
            return running[key]

        yield pair


def comparable(reply: Reply) -> dict[str, object]:
    """What the contract fixes of an answer; random ids and measured times by their form."""
    headers: dict[str, object] = {}
    for name in CONTRACT_HEADERS:
        values = reply.headers.get(name, ())
        if name == "x-ms-run-fn-exec-ms":
            values = tuple("time" if re.fullmatch(r"\d+\.\d{3}", value) else value for value in values)
        if name == "x-ms-server-version":
            values = tuple("version" for _ in values)
        if name == "allow":
            values = tuple(sorted(part.strip() for value in values for part in value.split(",")))
        headers[name] = tuple("uuid" if UUID.fullmatch(value) else value for value in values)
    if "transfer-encoding" in reply.headers:
        headers["content-length"] = "chunked"
    return {"status": reply.status, "body": body(reply), "cut off": reply.is_cut_off, **headers}


def body(reply: Reply) -> object:
    if reply.header("content-type") == "application/json":
        try:
            return json.loads(reply.body, parse_constant=str)
        except ValueError:
            pass
    return reply.body


def compare(azure: Reply, ours: Reply) -> dict[str, tuple[object, object]]:
    """Name of what differs -> (Azure's, ours)."""
    left, right = comparable(azure), comparable(ours)
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_same_answer(case: Case, pairs: Callable[[Case], Pair]) -> None:
    azure, ours = pairs(case)
    replies = [server.ask(case.method, case.target, case.body, case.headers) for server in (azure, ours)]
    difference = compare(*replies)
    if case.id in DIFFERENCES:
        assert difference, "no difference any more: take it out of DIFFERENCES and docs/scoring-contract.md"
    else:
        assert difference == {}
    assert ours.ask("GET", "/livez").status == 200


def test_enough_pairs() -> None:
    identifiers = [case.id for case in CASES]
    assert [each for each in identifiers if identifiers.count(each) > 1] == []
    assert len(identifiers) >= 150


def test_differences_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scoring-contract.md").read_text()
    assert set(DIFFERENCES) <= {case.id for case in CASES}
    assert [name for name in DIFFERENCES.values() if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.long
def test_broken_script_exits_3(name: str, runtime_root: Path, oracle_python: Path, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(BROKEN[name])
    launch = Launch(oracle_python, runtime_root, tmp_path, {"AZUREML_MODEL_DIR": str(tmp_path)})
    codes = {kind: wait_for_exit(launch.start(kind, "score.py")) for kind in ("azure", "ours")}
    assert codes == {"azure": 3, "ours": 3}
