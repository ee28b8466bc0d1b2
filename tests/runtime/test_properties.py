"""The contract for inputs that nobody thought of: both servers are asked the same generated requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .scripts import SCRIPTS
from .serving import Launch, Reply, Running, serving
from .test_contract import compare

Pairs = dict[str, tuple[Running, Running]]
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
HEADER_TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=110)
PARAMETERS = st.lists(
    st.tuples(st.text(max_size=5), st.text(max_size=8) | JSON_VALUES.map(json.dumps)), max_size=5
)
CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/ld+json",
        "a",
        "",
    ]
)


@pytest.fixture(scope="module")
def pairs(
    runtime_root: Path, oracle_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pairs]:
    found: Pairs = {}
    with ExitStack() as stack:
        for name in ("echo", "parsed", "schema", "raw"):
            folder = tmp_path_factory.mktemp("app")
            (folder / "score.py").write_text(SCRIPTS[name])
            launch = Launch(oracle_python, runtime_root, folder, {"AZUREML_MODEL_DIR": str(folder)})
            azure = stack.enter_context(serving(launch, "azure", "score.py"))
            found[name] = (azure, stack.enter_context(serving(launch, "ours", "score.py")))
        yield found


def difference(
    pair: tuple[Running, Running], *request: object, headers: list[tuple[str, str]] | None = None
) -> object:
    replies: list[Reply] = []
    for server in pair:
        method, target, body = request
        assert isinstance(method, str)
        assert isinstance(target, str)
        assert body is None or isinstance(body, bytes)
        replies.append(server.ask(method, target, body, headers or []))
    return compare(*replies)


@SETTINGS
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), kind=CONTENT_TYPES)
@pytest.mark.long
def test_any_body(pairs: Pairs, body: bytes, kind: str) -> None:
    assert difference(pairs["echo"], "POST", "/score", body, headers=[("Content-Type", kind)]) == {}


@SETTINGS
@given(value=JSON_VALUES)
def test_any_result(pairs: Pairs, value: object) -> None:
    body = json.dumps(value).encode()
    assert difference(pairs["parsed"], "POST", "/score", body) == {}
    azure, ours = (server.ask(body=body).body for server in pairs["parsed"])
    assert azure == ours


@SETTINGS
@given(parameters=PARAMETERS)
def test_any_query(pairs: Pairs, parameters: list[tuple[str, str]]) -> None:
    query = "&".join(
        f"{quote(key, errors='replace')}={quote(value, errors='replace')}" for key, value in parameters
    )
    assert difference(pairs["echo"], "GET", f"/score?{query}", None) == {}
    assert difference(pairs["raw"], "GET", f"/score?{query}", None) == {}


@SETTINGS
@given(value=JSON_VALUES, kind=CONTENT_TYPES)
def test_any_json_to_a_schema(pairs: Pairs, value: object, kind: str) -> None:
    body = json.dumps({"data": value, "frame": [{"a": 1, "b": "x"}], "factor": 1.0}).encode()
    assert difference(pairs["schema"], "POST", "/score", body, headers=[("Content-Type", kind)]) == {}
    whole = json.dumps(value).encode()
    assert difference(pairs["schema"], "POST", "/score", whole, headers=[("Content-Type", kind)]) == {}


@SETTINGS
@given(
    ids=st.dictionaries(
        st.sampled_from(["x-request-id", "x-ms-request-id", "x-ms-client-request-id", "TraceId"]), HEADER_TEXT
    )
)
def test_any_ids(pairs: Pairs, ids: dict[str, str]) -> None:
    assert difference(pairs["echo"], "POST", "/score", b"x", headers=list(ids.items())) == {}
