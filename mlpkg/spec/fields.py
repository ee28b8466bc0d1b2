"""Which keys a spec file has and what each may hold: type hints of `mlpkg.spec.model`, plus the rules of this module.

One description serves both readers: `mlpkg.spec.parse` checks files by it, `mlpkg.spec.schema` prints it.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from mlpkg import names
from mlpkg.platforms import BASES, PLATFORMS
from mlpkg.runtime import limits
from mlpkg.spec.model import (
    DebianTable,
    EntryTable,
    EnvironmentTable,
    ImageTable,
    ModelTable,
    PackageSpec,
    PackageTable,
    PythonTable,
    RegistryTable,
    ServerTable,
    SmokeTable,
    WorkspaceTable,
)

KeyPath = tuple[str | int, ...]
"""Keys and list indexes from the root of a document: ``("models", 0, "path")``."""

Kind = Literal["text", "whole", "number", "flag", "choice", "texts", "mapping", "table", "tables"]


class Rule(NamedTuple):
    """What the values of a field must be beyond their type. Of a list or table, each item must be so.

    `allowed` says it in words. `pattern` (a regular expression that Python and ECMA-262 read alike)
    holds for texts, `names` for a table's keys, `values` for what they hold, `minimum`, `maximum` and `above` for numbers.
    `folder_path` is a path below the spec's folder, `size` a number of bytes that may carry a unit.
    `private` values may hold a password and are never shown whole.
    """

    allowed: str = ""
    hint: str = ""
    pattern: str = ""
    names: str = ""
    values: str = ""
    values_hint: str = ""
    minimum: int | None = None
    maximum: int | None = None
    above: int | None = None
    longest: int | None = None
    filled: bool = False
    distinct: bool = False
    folder_path: bool = False
    size: bool = False
    private: bool = False


class NotYet(NamedTuple):
    """A key, or values of a key, that this version refuses. `supported` empty: the key itself.

    `most` limits the length of a list. `replaces` is a required key that the refused one stands for.
    """

    instead: str
    supported: tuple[str, ...] = ()
    most: int | None = None
    replaces: str = ""


class SpecField(NamedTuple):
    """One key of one table."""

    name: str
    kind: Kind
    required: bool
    default: Any
    rule: Rule
    later: NotYet | None
    choices: tuple[str, ...] = ()
    table: type[Any] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether this version takes no value at all for this key."""
        return self.later is not None and not self.later.supported and self.later.most is None


def _whole(low: int, high: int, **more: Any) -> Rule:
    return Rule(minimum=low, maximum=high, allowed=f"a whole number from {low} to {high}", **more)


PORT = _whole(*limits.PORT)

FOLDER_PATH = r"^(?![/~])(?!(.*/)?\.\.(/|$))(?!(\./*)+$)[^\\\x00-\x1f\x7f]+$"
"""Below the folder of the spec file: relative, no `..`, no backslash, no control character, not `.`."""

PATH_WORDS = "a relative path with `/`, without `..`, below the folder of this file"

LINE = r"^[^\x00-\x1f\x7f]*$"
"""One line of text, without control characters."""

LINE_OF_IMAGE = r"^[^\x00\n\r]*$"
"""One line of text for an image's configuration: what a Dockerfile can say."""

FILLED_LINE = r"^[^\x00-\x1f\x7f]+$"

HTTP_PATH = Rule(pattern=r"^/[!-~]*$", allowed="a path that starts with `/`, without blanks")

ADDRESS = Rule(
    pattern=r"^(https?://(?![^/]*@)[^/\s]|file:///)[^\s\x00-\x1f\x7f]*$",
    allowed="an address that starts with http://, https:// or file:///, without user name and password",
    hint="credentials belong in the configuration of apt, pip or uv",
    private=True,
)

OPTIONAL_ADDRESS = Rule(
    pattern=f"^$|{ADDRESS.pattern}",
    allowed=f"{ADDRESS.allowed}; or an empty text for no index",
    hint=ADDRESS.hint,
    private=True,
)

IGNORED = Rule(pattern=FILLED_LINE, allowed="a pattern in .gitignore's syntax")

MAX_BODY = r"^[0-9]{1,19} ?([kKMGT]i?)?B$"
"""A number of bytes, of at most 64 bits, with its unit: powers of 1000 (kB, MB, GB, TB) or of 1024 (KiB, MiB, GiB, TiB)."""

OWNED_VARIABLES = ("AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT", "AZUREML_MODEL_DIR", "AZUREML_SOURCE_DIRECTORY")
"""Variables that the image's layout sets (azure-contract §1.7)."""


def _path(**more: Any) -> Rule:
    return Rule(folder_path=True, pattern=FOLDER_PATH, allowed=PATH_WORDS, **more)


RULES: Mapping[tuple[type[Any], str], Rule] = {
    (PackageTable, "name"): Rule(
        pattern=names.REPOSITORY,
        longest=200,  # with host and port, registries take 255
        allowed="lower-case letters and digits, with single separators `.` `_` `-` between, parts split by `/`",
    ),
    (PackageTable, "version"): Rule(
        pattern=names.TAG, allowed="a tag: letters, digits, `_`, `.`, `-`, at most 128"
    ),
    (PackageTable, "description"): Rule(pattern=LINE, allowed="one line of text"),
    (PackageTable, "tags"): Rule(
        pattern=names.TAG, distinct=True, allowed="a tag: letters, digits, `_`, `.`, `-`, at most 128"
    ),
    (ModelTable, "name"): Rule(
        pattern=names.MODEL, allowed="letters, digits, `.`, `_`, `-`, first a letter or digit, at most 255"
    ),
    (ModelTable, "path"): _path(hint="a doit task may copy or make it there"),
    (ModelTable, "version"): Rule(
        minimum=1, maximum=2**31 - 1, allowed="a whole number from 1 to 2147483647"
    ),
    (ModelTable, "ignore"): IGNORED,
    (EntryTable, "script"): Rule(
        folder_path=True,
        pattern=FOLDER_PATH.removesuffix("+$") + r"*[^\\/\x00-\x1f\x7f]\.py$",
        allowed=f"{PATH_WORDS}, that ends in .py",
    ),
    (EntryTable, "source_directory"): _path(
        hint="put the code in a folder of its own, or leave it out and only the script ships"
    ),
    (EntryTable, "ignore"): IGNORED,
    (EnvironmentTable, "requirements"): _path(),
    (EnvironmentTable, "conda"): _path(),
    (EnvironmentTable, "debian"): Rule(
        pattern=names.DEBIAN_PACKAGE,
        distinct=True,
        allowed="a Debian package's name: lower-case letters, digits, `+`, `-`, `.`",
        hint="without version or architecture: `mlpkg lock` chooses them",
    ),
    (EnvironmentTable, "variables"): Rule(
        names=r"^(?!(" + "|".join(OWNED_VARIABLES) + r")$)" + names.VARIABLE + "$",
        allowed="a name of letters, digits and `_` that does not start with a digit, and none of "
        + ", ".join(OWNED_VARIABLES),
        hint="those are set by mlpkg",
        values=LINE_OF_IMAGE,
        values_hint="a variable is one line: give the text in a file",
        private=True,
    ),
    (ImageTable, "base"): Rule(pattern=FILLED_LINE, allowed=" or ".join(BASES)),
    (ImageTable, "platforms"): Rule(
        pattern="^(" + "|".join(PLATFORMS) + ")$",
        filled=True,
        distinct=True,
        allowed=" or ".join(PLATFORMS),
    ),
    (ImageTable, "labels"): Rule(
        names=names.LABEL,
        allowed="a name of letters, digits, `.`, `_`, `-`, `/`, such as org.example.team",
        values=LINE_OF_IMAGE,
        values_hint="a label is one line",
    ),
    (ImageTable, "user"): Rule(
        minimum=0,
        maximum=2**31 - 1,
        allowed="a whole number from 0 to 2147483647",
        hint="0 is root, which many clusters refuse; leave the key out for 65532",
    ),
    (ServerTable, "port"): PORT,
    (ServerTable, "workers"): _whole(*limits.WORKERS),
    (ServerTable, "timeout"): Rule(
        above=0, maximum=86400, allowed="a number of seconds, above 0 and at most 86400"
    ),
    (ServerTable, "max_body"): Rule(
        minimum=limits.MAX_BODY.low,
        maximum=limits.MAX_BODY.high,
        pattern=MAX_BODY,
        size=True,
        allowed=f"bytes, from {limits.MAX_BODY.low} to {limits.MAX_BODY.high} (2GiB), as a whole number or a text such as"
        ' "100MiB" or "1GB"',
    ),
    (ServerTable, "cors_origins"): Rule(
        pattern=rf"^(\*|[a-z][a-z0-9+.-]*://(?![^/]*@)[^\s/,{re.escape(limits.ORIGIN_PATTERN_MARKS)}\x00-\x1f\x7f]+)$",
        distinct=True,
        allowed="`*`, or an origin such as https://example.org (no path, no blank, no pattern)",
        private=True,
    ),
    (ServerTable, "command"): Rule(filled=True, allowed="a list of texts: the program and its arguments"),
    (ServerTable, "live"): HTTP_PATH,
    (ServerTable, "ready"): HTTP_PATH,
    (ServerTable, "score"): HTTP_PATH,
    (SmokeTable, "request"): _path(),
    (SmokeTable, "expect_status"): Rule(minimum=100, maximum=599, allowed="a whole number from 100 to 599"),
    (WorkspaceTable, "packages"): Rule(
        folder_path=True,
        pattern=r"^(?!!?[/~])(?!!?(.*/)?\.\.(/|$))[^\\\x00-\x1f\x7f]+$",  # unlike other paths, `.` is fine
        filled=True,
        distinct=True,
        allowed=f"{PATH_WORDS}; `*` stands for any name, `**` for any folders, `!` at its start takes folders out",
    ),
    (RegistryTable, "address"): Rule(
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$",
        allowed="`host` or `host:port`, without scheme, path, user name and password",
        hint="credentials come from Docker's configuration (`docker login`)",
        private=True,
    ),
    (RegistryTable, "port"): PORT,
    (RegistryTable, "storage"): Rule(pattern=FILLED_LINE, allowed="the path of a folder"),
    (DebianTable, "mirror"): ADDRESS,
    (DebianTable, "security_mirror"): ADDRESS,
    (DebianTable, "keyring"): Rule(pattern=FILLED_LINE, allowed="the path of a file"),
    (DebianTable, "snapshot"): Rule(
        pattern=r"^[0-9]{8}T[0-9]{6}Z$", allowed="a time stamp such as 20260901T000000Z"
    ),
    (PythonTable, "index"): OPTIONAL_ADDRESS,
    (PythonTable, "extra_indexes"): ADDRESS,
    (PythonTable, "find_links"): Rule(
        pattern=r"^(?!.*://[^/]*@)[^\x00-\x1f\x7f]+$",
        allowed="a folder, or an address without user name and password",
        private=True,
    ),
    (PythonTable, "ca_file"): Rule(pattern=FILLED_LINE, allowed="the path of a file"),
}

NOT_YET: Mapping[tuple[type[Any], str], NotYet] = {
    (PackageSpec, "smoke"): NotYet(instead="ask the running image: `mlpkg run`, then `mlpkg score`"),
    (ModelTable, "ref"): NotYet(instead="set `path` to the model's file or folder", replaces="path"),
    (EnvironmentTable, "conda"): NotYet(instead="list the Python packages in a `requirements` file"),
    (ImageTable, "base"): NotYet(
        instead="add what the script needs with environment.debian", supported=tuple(BASES)
    ),
    (ImageTable, "dockerfile"): NotYet(instead="add what the script needs with environment.debian"),
    (ImageTable, "builder"): NotYet(
        instead="leave the key out: `direct` needs no Docker", supported=("direct",)
    ),
    (ImageTable, "platforms"): NotYet(instead="write one package.toml for each", most=1),
}
"""What later versions will take. To lift a limit, delete its row."""

_KINDS: tuple[tuple[Any, Kind], ...] = (
    (str, "text"),
    (int, "whole"),
    (float, "number"),
    (bool, "flag"),
    (tuple[str, ...], "texts"),
    (Mapping[str, str], "mapping"),
)


_FIELDS: dict[type[Any], Mapping[str, SpecField]] = {}


def fields_of(table: type[Any]) -> Mapping[str, SpecField]:
    """The keys of a spec dataclass by name, in their order. Raises TypeError for a hint that is not known."""
    known = _FIELDS.get(table)
    if known is None:  # hints are resolved once: this is by far the slowest part of loading a spec
        hints = get_type_hints(table)
        known = {item.name: _spec_field(table, item, hints[item.name]) for item in fields(table)}
        _FIELDS[table] = known
    return known


def _spec_field(table: type[Any], item: Any, hint: Any) -> SpecField:
    rule = RULES.get((table, item.name), Rule())
    default = item.default if item.default_factory is MISSING else item.default_factory()
    kind, choices, nested = _kind(hint)
    return SpecField(
        name=item.name,
        kind=kind,
        required=default is MISSING,
        default=default,
        rule=rule,
        later=NOT_YET.get((table, item.name)),
        choices=choices,
        table=nested,
    )


def _kind(hint: Any) -> tuple[Kind, tuple[str, ...], type[Any] | None]:
    """Kind, choices and nested table of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        return _kind(arguments[0])
    if origin is Literal:
        return "choice", arguments, None
    nested = arguments[0] if origin is tuple else hint
    if isinstance(nested, type) and is_dataclass(nested):
        return ("tables" if origin is tuple else "table"), (), nested
    for known, kind in _KINDS:
        if hint == known:
            return kind, (), None
    raise TypeError(f"mlpkg.spec.model uses a type that spec files cannot hold: {hint}")
