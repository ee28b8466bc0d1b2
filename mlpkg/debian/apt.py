"""What the machine's own apt is configured with: sources, proxies, logins. Texts in, values out.

Sources: sources.list(5), both the one-line and the deb822 style. Settings: apt.conf(5). Logins:
apt_auth.conf(5). Only the two `read_` functions at the end touch files. Nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)"
)
_TOKEN = re.compile(
    r'\s+|//[^\n]*|#[^\n]*|/\*.*?\*/|(?P<text>"[^"]*")|(?P<sign>[{};])|(?P<word>[^\s{};"]+)', re.DOTALL
)


@dataclass(frozen=True, slots=True)
class AptSource:
    """One archive address that apt takes binary packages from.

    `signed_by` is what the entry says: paths or fingerprints, or a whole armoured certificate.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password for a host (``host`` or ``host:port``)."""

    host: str
    user: str
    password: str = field(repr=False)


def parse_one_line(text: str) -> Iterator[AptSource]:
    """The enabled ``deb`` lines of a ``.list`` file."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(
                option.split("=", 1) for option in (match["options"] or "").split() if "=" in option
            )
            yield AptSource(
                match["uri"],
                match["suite"],
                tuple(match["components"].split()),
                options.get("signed-by", "").replace(",", " "),
            )


def parse_deb822(text: str) -> Iterator[AptSource]:
    """The enabled ``deb`` stanzas of a ``.sources`` file, one value for each address and suite."""
    from debian.deb822 import Deb822  # noqa: PLC0415

    for fields in Deb822.iter_paragraphs(text, use_apt_pkg=False):
        enabled = fields.get("Enabled", "yes").lower() not in ("no", "false", "0")
        if not enabled or "deb" not in fields.get("Types", "").split():
            continue
        # A line with a lone dot stands for an empty one (deb822(5)).
        lines = (line.strip() for line in fields.get("Signed-By", "").splitlines())
        signed_by = "\n".join("" if line == "." else line for line in lines)
        for uri in fields.get("URIs", "").split():
            for suite in fields.get("Suites", "").split():
                yield AptSource(uri, suite, tuple(fields.get("Components", "").split()), signed_by)


def parse_settings(text: str) -> dict[str, str]:
    """The values of an apt.conf file by lower-case name (``acquire::http::proxy``); a later one wins."""
    values: dict[str, str] = {}
    scopes: list[str] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        if match["text"] is not None:
            words.append(match["text"][1:-1])
        elif match["word"]:
            words.append(match["word"])
        elif match["sign"] == "{":
            scopes.append(words[0].lower() if words else "")
            words = []
        elif match["sign"] == "}":
            scopes = scopes[:-1]
            words = []
        elif match["sign"] == ";":
            if len(words) == 2:
                values["::".join((*scopes, words[0].lower()))] = words[1]
            words = []
    return values


def parse_logins(text: str) -> Iterator[Login]:
    """The entries of an auth.conf file. Those for one path only (``machine host/path``) count for the host."""
    words = iter(re.sub(r"(?m)^\s*#.*$", "", text).split())
    entry: dict[str, str] = {}
    for word in words:
        if word == "machine":
            yield from _login(entry)
            entry = {}
        if word in ("machine", "login", "password"):
            entry[word] = next(words, "")
    yield from _login(entry)


def _login(entry: Mapping[str, str]) -> Iterator[Login]:
    if {"machine", "login", "password"} <= entry.keys():
        host = re.sub(r"^[a-z+]+://", "", entry["machine"]).partition("/")[0]
        yield Login(host, entry["login"], entry["password"])


def read_sources(root: Path) -> tuple[AptSource, ...]:
    """The sources below ``<root>/etc/apt``, in apt's own order. Files that cannot be read are passed over."""
    folder = root / "etc/apt/sources.list.d"
    found = list(parse_one_line(_text(root / "etc/apt/sources.list")))
    for path in sorted(folder.glob("*")):
        if path.suffix == ".list":
            found.extend(parse_one_line(_text(path)))
        elif path.suffix == ".sources":
            found.extend(parse_deb822(_text(path)))
    return tuple(found)


def read_settings(root: Path) -> dict[str, str]:
    """The settings below ``<root>/etc/apt``, in apt's own order."""
    parts = sorted(
        path
        for path in (root / "etc/apt/apt.conf.d").glob("*")
        if path.suffix in ("", ".conf") and path.is_file()
    )
    values: dict[str, str] = {}
    for path in (*parts, root / "etc/apt/apt.conf"):
        values.update(parse_settings(_text(path)))
    return values


def read_logins(root: Path) -> tuple[Login, ...]:
    """The logins of ``<root>/etc/apt/auth.conf`` and ``auth.conf.d`` that this user may read."""
    paths = (root / "etc/apt/auth.conf", *sorted((root / "etc/apt/auth.conf.d").glob("*")))
    return tuple(login for path in paths for login in parse_logins(_text(path)))


def _text(path: Path) -> str:
    """A missing or unreadable file counts as empty: apt's configuration is a default, never a must."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
