"""What the Debian base consists of: its suites, packages, and the facts that the choice of wheels needs."""

from __future__ import annotations

from mlpkg.errors import LockError
from mlpkg.platforms import BASES

SUITES = tuple(base.suite for base in BASES.values())

_PYTHON = {base.suite: base.python for base in BASES.values()}
_GLIBC = {base.suite: base.glibc for base in BASES.values()}

_BASE = (
    "base-files",  # the root's folders, os-release, licences
    "base-passwd",  # tables of system users and groups
    "ca-certificates",
    "libc-bin",  # for the C.UTF-8 locale and nsswitch.conf; its programs are left out
    "libc6",
    "libgcc-s1",  # compiled wheels expect it, as libstdc++6 and zlib1g (manylinux's list)
    "libstdc++6",
    "netbase",  # /etc/protocols and /etc/services
    "tzdata",
    "zlib1g",
)


def base_packages(suite: str, *, with_python: bool) -> tuple[str, ...]:
    """The names that a base is made from; their dependencies come on top. Raises LockError."""
    check_suite(suite)
    return (*_BASE, "python3") if with_python else _BASE


def python_version(suite: str) -> str:
    """The suite's Python, for example ``3.13``. Raises LockError."""
    check_suite(suite)
    return _PYTHON[suite]


def glibc_version(suite: str) -> str:
    """The suite's C library, for example ``2.41``: wheels for a newer one do not run. Raises LockError."""
    check_suite(suite)
    return _GLIBC[suite]


def check_suite(suite: str) -> None:
    """Raise LockError for a suite that no base is made from."""
    if suite not in SUITES:
        raise LockError(f"no Debian base of that name: {suite!r}", hint="one of: " + ", ".join(SUITES))
