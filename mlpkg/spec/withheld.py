"""What of a folder does not ship: a safe list for every package, and the patterns of its spec on top.

Each name is judged on its own, from the top folder down, as git does: nothing below a folder that does not
ship can be taken back. Taking a folder back (``!.config/``) takes back the folder, not the keys in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from mlpkg.spec.words import printable

if TYPE_CHECKING:
    from pathspec.pattern import RegexPattern

CLUTTER = (
    "__pycache__/", "*.pyc", "*.pyo", ".ipynb_checkpoints/", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/",
    ".hypothesis/", ".tox/", ".nox/", ".coverage", ".coverage.*", ".mlpkg/", ".doit.sqlite*", ".doit.db*",
    ".DS_Store", "._*", "Thumbs.db", "desktop.ini", "*.swp", "*.swo", "*~",
)  # fmt: skip
"""What programs leave behind and nobody misses: not even told."""

PRIVATE = (
    # version control, editors, environments: histories, addresses with tokens, other people's files
    ".git", ".hg/", ".svn/", ".bzr/", ".jj/", "CVS/", ".idea/", ".vscode/", ".venv/", "venv/", "node_modules/",
    ".cache/", ".config/", ".local/", ".direnv/", ".jupyter/", ".ipython/", ".*_history", ".history",
    # variables and passwords
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", "pgpass.conf", ".pg_service.conf", ".my.cnf",
    ".mylogin.cnf", ".htpasswd", ".s3cfg", ".boto", ".passwd-s3fs", "rclone.conf", ".rclone.conf", ".mc/",
    "*.kdbx", ".password-store/", ".vault-token", ".vault_pass*", "*.ovpn",
    # git's and package managers' tokens
    ".git-credentials", ".gitcookies", ".gitconfig", ".pypirc", "pip.conf", "pip.ini", ".pip/", ".condarc", ".npmrc",
    ".yarnrc", ".yarnrc.yml", ".cargo/", ".gem/", ".m2/", ".gradle/", ".dvc/",
    # files that hold secrets by their name
    "credentials.json", "credentials.toml", "credentials.yaml", "credentials.yml", "credentials.ini", "credentials.csv",
    "credentials.db", "*-credentials.json", "*_credentials.json", "accessKeys.csv", "*_accessKeys.csv", "rootkey.csv",
    "secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml", "secrets.ini", "secret.json", "secret.toml",
    "secret.yaml", "secret.yml", ".secret", ".secrets", ".secrets.*", "client_secret*.json", "service-account*.json",
    "service_account*.json", "serviceaccount*.json", "*firebase-adminsdk*.json",
    "application_default_credentials.json", "local.settings.json", "*.publishsettings",
    # clouds, clusters, infrastructure
    ".aws/", ".azure/", ".azureml/", ".gcloud/", ".gsutil/", ".oci/", ".aliyun/", ".bluemix/", ".databrickscfg",
    ".databricks/", ".snowflake/", ".snowsql/", ".modal.toml", ".docker/", ".dockercfg", ".dockerconfigjson", ".kube/",
    "kubeconfig", "kubeconfig.*", "*.kubeconfig", ".helm/", ".ansible/", ".pulumi/", ".terraform/", ".terraformrc",
    "terraform.rc", "*.tfstate", "*.tfstate.*", "*.tfvars", "*.tfvars.json",
    # tokens of machine learning services
    ".kaggle/", "kaggle.json", ".huggingface/", ".hf_token", ".comet.config", "clearml.conf", ".clearml.conf", ".neptune/",
    # keys and key stores
    ".ssh/", ".gnupg/", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.ppk", "*.p8", "*.p12",
    "*.pfx", "*.pkcs12", "*.jks", "*.keystore", "*.keytab", "secring.*",
)  # fmt: skip
"""What must not reach an image by accident. Leaving one out is told by name.

Not here, because they are what models and code are made of: ``config.json``, ``tokenizer.json``, ``vocab.*``,
``*.db``, ``*.sqlite``, ``*.sql``, ``*.dump``, ``*.crt``, ``*.der``, folders such as ``env``, ``secrets`` or ``wandb``
(also Python packages), ``uv.toml`` and other settings that only may hold a token.
"""

NAMED = 5
"""Paths that `LeftOut` names."""

Reason = Literal["", "clutter", "private", "spec"]
"""Why something does not ship; empty where it does."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the safe list kept out: the first paths in their order (folders end in ``/``), and how many there are.

    A folder counts once, whatever is in it.
    """

    first: tuple[str, ...] = ()
    count: int = 0

    def __str__(self) -> str:
        """``a/.env, a/.git/ and 3 more``; empty where nothing was left out. On one line."""
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return ", ".join(map(printable, self.first)) + more


def left_out(paths: Iterable[str]) -> LeftOut:
    """The value for all these paths."""
    ordered = sorted(paths)
    return LeftOut(tuple(ordered[:NAMED]), len(ordered))


def joined(parts: Iterable[LeftOut]) -> LeftOut:
    """What was left out of several trees."""
    several = [part for part in parts if part.count]
    first = sorted(path for part in several for path in part.first)
    return LeftOut(tuple(first[:NAMED]), sum(part.count for part in several))


class _Names(NamedTuple):
    """Patterns over names: those that are plain, and one expression for all others."""

    plain: frozenset[str]
    wild: re.Pattern[str]

    def has(self, name: str) -> bool:
        return name in self.plain or self.wild.match(name) is not None


@cache
def _names(*, of_folders: bool) -> tuple[tuple[Reason, _Names], ...]:
    """The safe list, made ready when a tree is listed: a tree may have 100,000 files, and a start needs none of it."""
    lists: tuple[tuple[Reason, tuple[str, ...]], ...] = (("clutter", CLUTTER), ("private", PRIVATE))
    found: list[tuple[Reason, _Names]] = []
    for reason, patterns in lists:
        names = [name.rstrip("/") for name in patterns if of_folders or not name.endswith("/")]
        wild = re.compile("|".join(translate(name) for name in names if "*" in name))
        found.append((reason, _Names(frozenset(name for name in names if "*" not in name), wild)))
    return tuple(found)


class Patterns:
    """A spec's patterns over the safe list. Raises ValueError or re.error for one that cannot be read."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        self._rules: list[tuple[int, RegexPattern]] = []
        if lines:
            from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where a spec has patterns

            rules: Sequence[RegexPattern] = GitIgnoreSpec.from_lines(lines).patterns
            numbered = reversed(list(enumerate(rules)))
            self._rules = [(index, rule) for index, rule in numbered if rule.include is not None]

    def reason(self, path: str) -> Reason:
        """Why a path does not ship; folders end in ``/``. The folders above it must ship."""
        return self.judge(path)[0]

    def judge(self, path: str) -> tuple[Reason, int | None]:
        """The reason, and the index of the spec's pattern that decided."""
        for index, rule in self._rules:
            if rule.regex is not None and _matches(rule.regex, path):
                return ("spec" if rule.include else ""), index
        return default_reason(path), None


def default_reason(path: str) -> Reason:
    """Why a path does not ship by the safe list alone; folders end in ``/``."""
    is_folder = path.endswith("/")
    name = path.rstrip("/").rpartition("/")[2]
    for reason, names in _names(of_folders=is_folder):
        if names.has(name):
            return reason
    return ""


def default_pattern(path: str) -> str:
    """The pattern of the safe list that keeps a path out, for a message."""
    for pattern in (*CLUTTER, *PRIVATE):
        alone = pattern.rstrip("/")
        name = path.rstrip("/").rpartition("/")[2]
        if re.match(translate(alone), name) and (alone == pattern or path.endswith("/")):
            return pattern
    return ""


def _matches(regex: re.Pattern[str], path: str) -> bool:
    """Whether a pattern means this very path, not a folder above it.

    pathspec marks the ``/`` of a folder that matched with the group ``ps_d``; git judges each path on its own
    (gitignore(5): a pattern for a folder says nothing of what is in it, but that it is not looked at).
    """
    marked = "ps_d" in regex.groupindex
    bare = path.rstrip("/")
    for match in regex.finditer(path):
        start = match.start("ps_d") if marked else -1
        if start == len(bare) or (start < 0 and (bare == path or regex.search(bare))):
            return True
    return False
