"""A record of a wrong shape counts as absent, whatever is in it: for every step, and for every reader of its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpkg.service import running
from mlpkg.spec.workspace import Package, load
from mlpkg.steps import build, push, render, tag
from mlpkg.steps.look import is_current, why
from mlpkg.steps.pipeline import STEPS
from mlpkg.steps.step import Consumed, Step, Wanted, read_record, record_path, write_record

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)

IMAGE = {
    "digest": "sha256:" + "0" * 64,
    "manifest": "{}",
    "manifest_type": "m",
    "config": "{}",
    "config_type": "c",
    "layers": [],
    "made": [],
}

RESULTS: dict[str, dict[str, Any]] = {
    "lock": {},
    "render": {},
    "build": IMAGE,
    "tag": {"repository": "p", "digest": "sha256:" + "0" * 64, "tags": ["a"]},
    "push": {"registry": "r", "repository": "r/p", "digest": "sha256:" + "0" * 64, "tags": ["a"]},
}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    folder = tmp_path / "packages" / "p"
    folder.mkdir(parents=True)
    (folder / "package.toml").write_text(
        '[package]\nname = "p"\n\n[server]\nkind = "custom"\ncommand = ["true"]\n'
    )
    (tmp_path / "mlpkg.toml").write_text("")
    return load(tmp_path).package("p")


READERS: tuple[Callable[[Package], object], ...] = (
    build.result,
    build.read_image,
    tag.result,
    push.receipt,
    push.wanted,
    tag.wanted,
    render.planned_tags,
    running._known,
)


def read_everything(package: Package) -> None:
    """What any verb does with what is kept: none of it may fail."""
    for step in STEPS:
        why(step.NAME, package)
        is_current(step.NAME, package)
    for reader in READERS:
        reader(package)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values inside a JSON value, itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = put(value[path[0]], path[1:], junk)
    return copied


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.NAME)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_junk_anywhere_in_a_record_is_no_error(package: Package, step: Step, data: st.DataObject) -> None:
    path = record_path(step, package)
    spec = package.folder / "package.toml"
    from mlpkg.store.records import file_state

    inputs = {package.relative(spec): file_state(spec)}
    write_record(step, package, Wanted(None, {"format": "1"}), Consumed(inputs, (spec,), RESULTS[step.NAME]))
    whole = json.loads(path.read_text())
    where = data.draw(st.sampled_from(places(whole)))
    path.write_text(json.dumps(put(whole, where, data.draw(JUNK))))
    read_everything(package)


@pytest.mark.parametrize("junk", ["[" * 5000, '{"a":' * 5000, "", "\0", "5", '{"format": NaN}', "9" * 5000])
def test_files_that_are_no_records_are_absent(package: Package, junk: str) -> None:
    package.records.mkdir(parents=True)
    for name in (*(step.RECORD for step in STEPS), "plan.json", "service.json"):
        (package.records / name).write_text(junk)
    read_everything(package)
    assert [read_record(step, package) for step in STEPS] == [None] * len(STEPS)


def test_a_record_with_a_result_of_another_shape_is_absent(package: Package) -> None:
    for step, wrong in (
        (tag, {"digest": "x", "tags": 5}),
        (push, {"tags": [1]}),
        (build, {**IMAGE, "layers": 5}),
    ):
        write_record(step, package, Wanted((), {}), Consumed({}, result=wrong))
        assert read_record(step, package) is None
        assert [str(change) for change in why(step.NAME, package)] == ["never done"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_junk_in_the_services_file_is_no_service(package: Package, data: st.DataObject) -> None:
    whole = {
        "kind": data.draw(st.sampled_from(["process", "container"])),
        "reference": "4711",
        "port": 6789,
        "born": "x",
        "workspace": running._workspace_digest(package),
    }
    package.records.mkdir(parents=True, exist_ok=True)
    where = data.draw(st.sampled_from(places(whole)))
    (package.records / "service.json").write_text(json.dumps(put(whole, where, data.draw(JUNK))))
    found = running._known(package)
    if found and found.kind == "process":
        assert int(found.reference) >= 0
        assert 0 <= found.port < 65536
