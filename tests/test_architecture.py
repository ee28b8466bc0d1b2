"""The house's shape: imports point down, slow things load late, few modules touch the outside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mlpkg"

ROOMS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("tasks",),
    ("service",),
    ("steps",),
    ("registry",),
    ("local",),
    ("lock",),
    ("builders",),
    ("debian", "wheels", "bytecode"),
    ("plan",),
    ("spec",),
    ("remote", "engine"),
    ("http",),
    ("store",),
    ("layer", "lockfile", "progress", "platforms", "interrupt"),
    ("digest",),
    ("formats", "errors", "names"),
    ("runtime",),
    ("__init__",),
)
"""From the top floor down (DESIGN §9): a room imports rooms of lower floors only, never one beside it."""


def module_name(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def imports(path: Path, *, with_names: bool = False) -> Iterator[tuple[str, bool]]:
    """What a file imports, as dotted names, and whether at its top level; the names taken from it, if asked for."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "mlpkg":
                for alias in node.names:
                    yield f"mlpkg.{alias.name}", id(node) in top
            else:
                yield node.module, id(node) in top
                if with_names:
                    yield from ((f"{node.module}.{alias.name}", id(node) in top) for alias in node.names)


def test_every_module_has_its_place() -> None:
    placed = {name for floor in ROOMS for name in floor}
    assert {module_name(path) for path in modules()} == placed


def test_imports_point_down() -> None:
    floor = {name: number for number, row in enumerate(ROOMS) for name in row}
    wrong = []
    for path in modules():
        own = module_name(path)
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] != "mlpkg" or len(parts) == 1 or parts[1] == "__version__":
                continue
            other = parts[1]
            if other != own and floor[other] <= floor[own]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_no_two_modules_import_each_other() -> None:
    """Not even for type checking, nor in a function: what is in a circle can only be understood as a whole."""
    names = {
        ".".join(("mlpkg", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in modules()
    }
    graph = {}
    for name, path in names.items():
        found = {other for module, _ in imports(path, with_names=True) if (other := module) in names}
        graph[name] = found - {name}
    TopologicalSorter(graph).prepare()


def test_the_runtime_imports_nothing_else_of_mlpkg() -> None:
    for path in (PACKAGE / "runtime").rglob("*.py"):
        for name, _ in imports(path):
            assert not name.startswith("mlpkg") or name.startswith("mlpkg.runtime"), f"{path}: {name}"


SLOW = {
    "docker",
    "jinja2",
    "rich",
    "urllib3",
    "debian",
    "pysequoia",
    "requests",
    "pathspec",
    "bcrypt",
    "packaging",
}


def test_slow_libraries_are_not_imported_at_the_top() -> None:
    allowed = {"http"}  # its `transport` is loaded when something is really asked for
    for path in modules():
        if module_name(path) in allowed:
            continue
        found = {name.split(".")[0] for name, at_top in imports(path) if at_top} & SLOW
        assert not found, f"{path.relative_to(PACKAGE)} imports {found} at its top"


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("docker", {"engine"}),
        ("doit", {"tasks"}),
        ("jinja2", {"plan"}),
        ("urllib3", {"http", "engine"}),
        ("tomllib", set()),
        ("pysequoia", {"debian"}),
    ],
)
def test_each_library_is_known_to_few(library: str, where: set[str]) -> None:
    users = {
        module_name(path) for path in modules() for name, _ in imports(path) if name.split(".")[0] == library
    }
    assert users <= where


def test_only_the_command_line_prints() -> None:
    for path in modules():
        if module_name(path) in ("runtime", "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), path


def test_nothing_catches_everything() -> None:
    """The command line's boundary may (exit 3), and what runs a user's dodo.py. The image's server has its own."""
    for path in modules():
        if module_name(path) in ("runtime", "cli", "tasks"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}: bare except"
                assert getattr(node.type, "id", "") != "Exception", f"{path}:{node.lineno}: except Exception"


def test_looking_at_a_workspace_loads_nothing_slow(tmp_path: Path) -> None:
    code = "import sys, mlpkg.tasks, mlpkg.cli; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not set(ran.stdout.split()) & SLOW
