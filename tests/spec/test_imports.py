"""Which modules a script imports, without running it."""

from __future__ import annotations

import pytest

from mlpkg.spec.imports import imported_modules, uses_rawhttp


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import a.b, c as d", "", {"a.b", "c"}),
        ("from a.b import c, d as e", "", {"a.b", "a.b.c", "a.b.d"}),
        ("from a import *", "", {"a", "a.*"}),
        ("def init():\n    import late", "", {"late"}),
        ("try:\n    import one\nexcept ImportError:\n    import two", "", {"one", "two"}),
        ("if TYPE_CHECKING:\n    import one\nelse:\n    import two", "", {"two"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import one", "", {"typing"}),
        ("from . import near", "pack.age", {"pack.age", "pack.age.near"}),
        ("from .near import name", "pack", {"pack.near", "pack.near.name"}),
        ("from ..up import name", "pack.age", {"pack.up", "pack.up.name"}),
        ("text = 'import nothing'  # import nothing", "", set()),
        ("", "", set()),
    ],
)
def test_names(source: str, package: str, expected: set[str]) -> None:
    assert set(imported_modules(source.encode(), package) or ()) == expected


@pytest.mark.parametrize("source", [b"def f(:", b"\0", b"(" * 5000, b"# coding: nonsense\n"])
def test_what_cannot_be_parsed_is_not_judged(source: bytes) -> None:
    assert imported_modules(source) is None


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("from azureml.contrib.services.aml_request import rawhttp", True),
        ("from azureml.contrib.services.aml_response import AMLResponse", True),
        ("from azureml.contrib.services import rawhttp", True),
        ("from azureml.contrib import services", True),
        ("import azureml.contrib.services.aml_request as q", True),
        ("from azureml_inference_server_http.api.aml_request import AMLRequest", True),
        ("from azureml_inference_server_http import api", True),
        ("def run(data):\n    from azureml.contrib.services.aml_response import AMLResponse", True),
        ("from azureml.core.model import Model", False),
        ("from azureml.contrib.servicesx import rawhttp", False),
        ("import azureml_inference_server_http.log_config", False),
        ("# from azureml.contrib.services.aml_request import rawhttp", False),
        ("TEXT = 'from azureml.contrib.services.aml_request import rawhttp'", False),
        ("def rawhttp(f): return f", False),
    ],
)
def test_uses_rawhttp(source: str, uses: bool) -> None:
    modules = imported_modules(source.encode())
    assert modules is not None
    assert uses_rawhttp(modules) is uses
