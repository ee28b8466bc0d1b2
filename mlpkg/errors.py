"""What can go wrong, as one small tree. Every error says what, where, and what to do.

::

    MlpkgError                 exit 1   something failed; nothing already built is lost
    |- UsageError              exit 2   the command line, or the workspace, cannot be used
    |  `- Taken               exit 2   a port or a name is somebody else's
    |- SpecError               exit 2   a spec is wrong: all its problems at once
    |- LockError               exit 2   what the spec asks for cannot be chosen
    |- NotWritten              exit 1   a file cannot be written: no room, or no right
    |- ChangedInput            exit 1   a file changed while it was read
    |- DigestMismatch          exit 1   bytes are not those that were named
    |- RegistryError           exit 1   a registry refused
    `- Unreachable             exit 4   a needed service cannot be reached

Anything else that reaches the command line is a bug (exit 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MlpkgError(Exception):
    """A failure to show to the user without a traceback.

    `message` says what and where; `hint` says what to do about it (may be empty).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by state: doit's worker processes send failures back to their parent."""
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[MlpkgError], state: dict[str, object]) -> MlpkgError:
    error = kind.__new__(kind)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


class UsageError(MlpkgError):
    """The command line or the workspace cannot be used as it is."""

    exit_code = 2


class Taken(UsageError):
    """A port or a name belongs to somebody else; another one may be free."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a spec file.

    `file` is the path as the user would type it, `key` the TOML key path (``models[0].path``,
    empty for the file as a whole), `line` counts from 1 where it is known. `excerpt` is what stands on that
    line, without values, and `column` the place in it from 1: they are shown below the message with a caret.
    """

    file: str
    key: str
    message: str
    hint: str = ""
    line: int | None = None
    excerpt: str = ""
    column: int = 1

    def __str__(self) -> str:
        """One line, and two more below it where there is an excerpt."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{where}: {self.key}" if self.key else where
        text = f"{subject}: {self.message}" + (f" ({self.hint})" if self.hint else "")
        return f"{text}\n    {self.excerpt}\n    {'^':>{self.column}}" if self.excerpt else text


class SpecError(MlpkgError):
    """All problems of one or several specs."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"  {line}" for problem in problems for line in str(problem).splitlines()]
        super().__init__("\n".join([f"{count} in the package specs:", *lines]))
        self.problems = tuple(problems)


class LockError(MlpkgError):
    """What the spec asks for cannot be chosen: no wheel, no package, no trusted index."""

    exit_code = 2


class NotWritten(MlpkgError):
    """A file or folder cannot be written: no room, or no right."""


class ChangedInput(MlpkgError):
    """A file is not what it was when its digest was taken."""


class DigestMismatch(MlpkgError):
    """Bytes that crossed a boundary are not those that were named."""


class RegistryError(MlpkgError):
    """A registry answered with an error (OCI distribution-spec, "Error Codes")."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class Unreachable(MlpkgError):
    """A needed service (registry, engine, mirror) does not answer."""

    exit_code = 4
