"""Records: torn ones are absent, changes are found by content, equal times prove nothing when they are racy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlpkg.digest import sha256
from mlpkg.store import files, records
from mlpkg.store.records import Change, Record

OLD = 1_600_000_000


def make(folder: Path, name: str, text: str, *, age: int = OLD) -> Path:
    path = folder / name
    path.write_text(text)
    os.utime(path, (age, age))
    return path


def trusted(path: Path) -> records.FileState:
    """The file's state as if it had been read long after its last change (ctime cannot be set back)."""
    state = records.file_state(path)
    return records.FileState(state.digest, state.identity, state.read_at + 10 * records.RACY_NS)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    data, made = make(tmp_path, "data", "one"), make(tmp_path, "made", "two")
    return Record(
        "p", "build", {"data": trusted(data)}, {"made": trusted(made)}, {"format": "1"}, {"digest": "x"}
    )


def why(
    record: Record | None, root: Path, *, files: tuple[str, ...] | None = None, form: str = "1"
) -> list[str]:
    return [change.name for change in records.look(record, root, files, {"format": form}).changes]


def test_a_record_survives_its_file(tmp_path: Path, record: Record) -> None:
    records.write(tmp_path / "r.json", record)
    assert records.read(tmp_path / "r.json", "p", "build") == record
    assert why(record, tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        "[" * 100_000,
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 999, "package": "p", "step": "build"}',
    ],
)
def test_a_torn_or_foreign_record_is_absent(tmp_path: Path, record: Record, damage: str) -> None:
    path = tmp_path / "r.json"
    records.write(path, record)
    path.write_text(damage)
    assert records.read(path, "p", "build") is None
    assert records.look(None, tmp_path, None, {}).changes == (Change("never done", "", ""),)


def test_a_record_of_another_step_is_absent(tmp_path: Path, record: Record) -> None:
    records.write(tmp_path / "r.json", record)
    assert records.read(tmp_path / "r.json", "p", "push") is None


def test_a_record_of_another_package_is_absent(tmp_path: Path, record: Record) -> None:
    records.write(tmp_path / "r.json", record)
    assert records.read(tmp_path / "r.json", "q", "build") is None


def test_changed_content_is_a_change(tmp_path: Path, record: Record) -> None:
    make(tmp_path, "data", "changed")
    assert why(record, tmp_path) == ["data"]


def test_same_size_and_same_mtime_with_other_content_is_a_change(tmp_path: Path, record: Record) -> None:
    make(tmp_path, "data", "eno")  # doit's own checker calls this unchanged
    assert why(record, tmp_path) == ["data"]


def test_a_touched_file_is_no_change(tmp_path: Path, record: Record) -> None:
    os.utime(tmp_path / "data")
    assert why(record, tmp_path) == []


def test_a_replaced_file_with_equal_content_is_no_change(tmp_path: Path, record: Record) -> None:
    make(tmp_path, "other", "one").replace(tmp_path / "data")
    assert why(record, tmp_path) == []


def test_an_identity_that_is_not_trusted_is_not_believed(tmp_path: Path, record: Record) -> None:
    state = records.file_state(tmp_path / "data")
    lying = records.FileState(sha256(b"what it was"), state.identity, state.read_at)
    assert not lying.is_trusted
    racy = Record("p", "build", {"data": lying}, {}, {"format": "1"})
    assert why(racy, tmp_path) == ["data"]


def test_a_missing_input_and_a_tampered_output_are_changes(tmp_path: Path, record: Record) -> None:
    (tmp_path / "data").unlink()
    make(tmp_path, "made", "tampered")
    assert why(record, tmp_path) == ["data", "made"]


def test_new_and_dropped_inputs_are_changes(tmp_path: Path, record: Record) -> None:
    make(tmp_path, "more", "m")
    assert why(record, tmp_path, files=("data", "more")) == ["more"]
    assert why(record, tmp_path, files=()) == ["data"]


def test_values_decide_too(tmp_path: Path, record: Record) -> None:
    (change,) = records.look(record, tmp_path, None, {"format": "2"}).changes
    assert str(change) == "format: 1 -> 2"


def test_a_renewed_record_makes_the_next_look_free(tmp_path: Path) -> None:
    data = make(tmp_path, "data", "one")
    record = Record("p", "build", {"data": trusted(data)}, {}, {})
    assert records.look(record, tmp_path, None, {}).renewed is None
    os.utime(data)
    renewed = records.look(record, tmp_path, None, {}).renewed
    assert renewed is not None
    assert renewed.inputs["data"].identity == records.identity(data.stat())
    assert renewed.inputs["data"].digest == record.inputs["data"].digest


def test_what_changes_after_it_was_compared_is_never_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path, "data", "one")
    record = Record("p", "build", {"data": trusted(data)}, {}, {})
    os.utime(data)
    real = records.file_state

    def then_changed(path: Path) -> records.FileState:
        state = real(path)
        path.write_text("other content")
        return state

    monkeypatch.setattr(records, "file_state", then_changed)
    renewed = records.look(record, tmp_path, None, {}).renewed
    assert renewed is not None
    assert renewed.inputs["data"].digest == record.inputs["data"].digest
    monkeypatch.undo()
    assert [change.name for change in records.look(renewed, tmp_path, None, {}).changes] == ["data"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, "r.json", "before")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, b"after")
    assert path.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["r.json"]
