"""The command line: verbs, their grammar and manual; the only printing, exit codes, the error boundary."""

from __future__ import annotations

from mlpkg.cli.commands import main

__all__ = ["main"]
