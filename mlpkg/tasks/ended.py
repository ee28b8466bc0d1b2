"""The end of a run that cannot go on: said once, under any of doit's reporters and commands."""

from __future__ import annotations

import sys
from typing import NoReturn


class RunEnded(SystemExit):
    """Ends the process with one of the house's exit codes; `text` has been said. doit lets it through."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.text = text


def end_run(code: int, text: str) -> NoReturn:
    """Say an error and end the run. Raises RunEnded."""
    print_error(text)
    raise RunEnded(code, text)


def print_error(text: str) -> None:
    """An error for people."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {text}\n")
