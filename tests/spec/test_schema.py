"""The generated schemas and pages: committed as generated, complete, and in agreement with the parser."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tomli
from jsonschema import Draft202012Validator

from mlpkg.spec import model as spec
from mlpkg.spec.fields import fields_of
from mlpkg.spec.model import PackageSpec, WorkspaceSpec
from mlpkg.spec.schema import field_texts, package_schema, texts, workspace_schema, write_all

ROOT = Path(__file__).parents[2]
SPECS = Path(__file__).parent / "specs"
VALID = sorted((SPECS / "valid").glob("*.toml"))
INVALID = sorted(
    path
    for path in (SPECS / "invalid").glob("*.toml")
    if not path.stem.removeprefix("mlpkg-").startswith("syntax")
)  # the others are no TOML

PARSER_ONLY = {
    "server-azureml-max-body",
    "mlpkg-registry-both",
    "mlpkg-snapshot",
    "mlpkg-snapshot-missing",
    "models-twice",
    "models-by-capitals",
    "mlpkg-mirror-host",
    "mlpkg-mirror-slash",
    "entry-ignore-alone",
    "name-of-mlpkg",
    "name-line-end",  # Python's `$` also matches before a last line end
    "server-custom-command-nul",
    "server-custom-keys",
    "tags-have-version",
    "variables-of-server",
    "variables-private-key-line",
}
"""What only the parser sees: relations between keys, and what secrets look like."""


def validator(path: Path) -> Draft202012Validator:
    schema = workspace_schema() if path.name.startswith("mlpkg-") else package_schema()
    return Draft202012Validator(schema)


def document(path: Path) -> dict[str, Any]:
    return tomli.loads(path.read_bytes().decode())


@pytest.mark.parametrize("name", sorted(texts()))
def test_committed_is_generated(name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    committed = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert committed == texts()[name], "out of date: run `mlpkg schema --write docs/reference`"


def test_write_all(tmp_path: Path) -> None:
    paths = write_all(tmp_path / "new" / "folder")
    assert {path.name: path.read_text(encoding="utf-8") for path in paths} == texts()


@pytest.mark.parametrize("schema", [package_schema(), workspace_schema()], ids=["package", "workspace"])
def test_schemas_are_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_specs_fit_the_schema(path: Path) -> None:
    assert [error.message for error in validator(path).iter_errors(document(path))] == []


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_the_schema_refuses_what_it_can(path: Path) -> None:
    fits = validator(path).is_valid(document(path))
    assert fits == (path.stem in PARSER_ONLY)


@pytest.mark.parametrize("root", [PackageSpec, WorkspaceSpec])
def test_every_field_has_a_text(root: type[Any]) -> None:
    for table in fields_of(root).values():
        assert table.table is not None
        assert (table.table.__doc__ or "").startswith("`[")
        for field in fields_of(table.table).values():
            text = field_texts().get((table.table.__name__, field.name), "")
            assert text.endswith("."), f"{table.table.__name__}.{field.name}"


def test_every_dataclass_of_spec_is_reached() -> None:
    reached = {
        field.table
        for root in (PackageSpec, WorkspaceSpec)
        for field in fields_of(root).values()
        if field.table
    }
    defined = {value for value in vars(spec).values() if dataclasses.is_dataclass(value)}
    assert defined == reached | {PackageSpec, WorkspaceSpec}


@pytest.mark.parametrize("root", [PackageSpec, WorkspaceSpec])
def test_the_pages_name_every_key(root: type[Any]) -> None:
    page = texts()["package-toml.md" if root is PackageSpec else "mlpkg-toml.md"]
    for table in fields_of(root).values():
        section = page.partition(f"[{table.name}]")[2].partition("\n## ")[0]
        for name in fields_of(table.table) if table.table else ():
            assert f"\n| `{name}` | " in section


def test_defaults_fit() -> None:
    for schema in (package_schema(), workspace_schema()):
        for table in schema["properties"].values():
            for value in table.get("properties", {}).values():
                if "default" in value:
                    Draft202012Validator(value).validate(value["default"])
