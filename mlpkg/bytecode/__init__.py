"""Compiled Python (.pyc) for images: made by the image's own Python, the same bytes on every machine.

Without them each start of a service compiles all that it imports, and on a read-only root it does so at
every start. Needs neither root nor an engine: the base's Python runs here through its own dynamic loader.
"""

from __future__ import annotations

from mlpkg.bytecode.compiled import compile_files, layer_bytecode, wheel_bytecode
from mlpkg.bytecode.interpreter import Interpreter, interpreter, is_native

__all__ = ["Interpreter", "compile_files", "interpreter", "is_native", "layer_bytecode", "wheel_bytecode"]
