"""Which modules a script imports, seen without running it. Pure: bytes in, dotted names out."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator

from mlpkg.runtime.requirements import RAWHTTP_MODULES


def imported_modules(source: bytes, package: str = "") -> frozenset[str] | None:
    """Dotted names of all that a file imports, in functions too; None where it cannot be parsed.

    `package` is the dotted name of the package that the file belongs to, for relative imports. Of
    ``from a import b`` both ``a`` and ``a.b`` are given, because ``b`` may be a module. Imports for type
    checkers only (``if TYPE_CHECKING:``) do not count.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is the script's business
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return frozenset(_names(tree, package))


def uses_rawhttp(modules: Iterable[str]) -> bool:
    """Whether one of the modules gives a script `rawhttp`, `AMLRequest` or `AMLResponse`."""
    return any(f"{name}.".startswith(f"{module}.") for name in modules for module in RAWHTTP_MODULES)


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            yield from filter(None, (base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _base(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of what a ``from`` statement takes from."""
    parts = package.split(".") if package else []
    around = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join((*around, *filter(None, [node.module])))
