"""Which packages belong to the wanted ones: their dependencies, without those of maintainer scripts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mlpkg.debian.index import IndexedPackage, PackageIndex, provides, relations
from mlpkg.debian.relation import Alternatives, Relation
from mlpkg.errors import LockError
from mlpkg.lockfile import Deb
from mlpkg.names import DEBIAN_PACKAGE

SCRIPTS_ONLY = frozenset(
    (
        # Packages that others depend on for their maintainer scripts, which do not run here. Looked up in
        # the closures of both suites. Whoever needs one at run time names it.
        "adduser",  # makes system users
        "awk",  # base-files' preinst; would bring gawk, gmp, mpfr: 5 MB
        "cdebconf",
        "debconf",  # asks questions
        "debconf-2.0",
        "default-systemd-sysusers",
        "dpkg",  # python3-minimal's byte-compiling, readline-common's install-info; would bring tar: 10 MB
        "emacsen-common",  # byte-compiles Emacs modules
        "init-system-helpers",  # registers services
        "install-info",  # indexes manuals, which are left out
        "lsb-base",  # functions for init scripts
        "opensysusers",
        "passwd",  # adduser's programs
        "perl-base",  # debconf's interpreter; programs in Perl depend on perl
        "sensible-utils",  # choose an editor or pager
        "systemd-standalone-sysusers",
        "systemd-standalone-tmpfiles",
        "systemd-sysusers",
        "systemd-tmpfiles",
        "sysvinit-utils",  # stands in for lsb-base
        "ucf",  # merges changed configuration files
        "update-inetd",
        "usr-is-merged",  # the layers merge /usr themselves
        "usrmerge",
    )
)

SCRIPTS_ONLY_OF = {
    # Dependencies of one package for its scripts or for a program that only these use.
    "base-passwd": ("libdebconfclient0", "libselinux1"),  # update-passwd; the image takes the tables alone
    "bash": ("debianutils",),  # registers the shell in /etc/shells
    "ca-certificates": ("openssl",),  # names certificates by hash; the image has the bundle
    "dash": ("debianutils",),
}

_PACKAGE = re.compile(DEBIAN_PACKAGE)


@dataclass(slots=True)
class _Search:
    """What was chosen so far, by name, and what could not be."""

    index: PackageIndex
    chosen: dict[str, IndexedPackage] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def note(self, problem: str, because: str) -> None:
        reasons = self.problems.setdefault(problem, [])
        if because and because not in reasons:
            reasons.append(because)


def resolve(index: PackageIndex, wanted: Iterable[str], *, present: Iterable[Deb] = ()) -> tuple[Deb, ...]:
    """The wanted packages and all they depend on, sorted by name, without those already `present`.

    Of alternatives the first counts that is chosen already, else the first that can be met; a virtual
    name is met by its first provider by name. Recommends are not followed. Raises LockError with all
    names that are unknown or cannot be met, and for chosen packages that exclude each other.
    """
    search = _Search(index)
    there = {deb.name: deb for deb in present}
    search.chosen.update((name, _present(index, deb)) for name, deb in there.items())
    named = [package for name in sorted(set(wanted)) for package in _named(search, name)]
    waiting = [package for package in named if package.name not in there]
    search.chosen.update((package.name, package) for package in waiting)
    while waiting:
        waiting = [package for parent in waiting for package in _needed(search, parent)]
    _raise_problems(search)
    _check_conflicts(search.chosen)
    return tuple(search.chosen[name].deb for name in sorted(search.chosen) if name not in there)


def _present(index: PackageIndex, deb: Deb) -> IndexedPackage:
    """A package that is there already, in the version it has there, with the relations the index knows."""
    versions = [package for archive in index.archives for package in archive.packages(deb.name)]
    same = [package for package in versions if package.version == deb.version]
    known = same[0] if same else index.package(deb.name)
    return replace(known, deb=deb) if known else IndexedPackage(deb)


def _named(search: _Search, name: str) -> list[IndexedPackage]:
    """The package of a wanted name, or the only one that provides it."""
    package = search.index.package(name)
    if package:
        return [package]
    providers = search.index.providers(Relation(name)) if _PACKAGE.fullmatch(name) else ()
    if len(providers) == 1:
        return [providers[0]]
    if providers:
        search.note(
            f"{name} is provided by several: {_some(package.name for package in providers)}; name one", ""
        )
    else:
        search.note(
            f"{name}: no such package in Debian {search.index.suite}{_nearest(search.index, name)}", ""
        )
    return []


def _needed(search: _Search, parent: IndexedPackage) -> list[IndexedPackage]:
    """The packages that the parent needs and that were not chosen yet; they are, afterwards."""
    found: list[IndexedPackage] = []
    for group in relations(parent, parent.pre_depends, parent.depends):
        if _met(search.chosen, group) or _is_for_scripts(parent, group):
            continue
        package = _first(search.index, group)
        if package is None:
            text = " | ".join(str(relation) for relation in group)
            search.note(f"{text}: not in Debian {search.index.suite}", parent.name)
        elif package.name in search.chosen:
            # Only a locked base can be too old: what is chosen from the index is the newest already.
            search.note(
                f"{group[0]}: the base is locked with {search.chosen[package.name].version}", parent.name
            )
        else:
            search.chosen[package.name] = package
            found.append(package)
    return found


def _is_for_scripts(parent: IndexedPackage, group: Alternatives) -> bool:
    left_out = SCRIPTS_ONLY_OF.get(parent.name, ())
    return any(relation.name in SCRIPTS_ONLY or relation.name in left_out for relation in group)


def _met(chosen: dict[str, IndexedPackage], group: Alternatives) -> bool:
    for relation in group:
        package = chosen.get(relation.name)
        if package and relation.allows(package.version):
            return True
    return any(
        provides(package, relation) for relation in group for package in chosen.values() if package.provides
    )


def _first(index: PackageIndex, group: Alternatives) -> IndexedPackage | None:
    for relation in group:
        package = index.package(relation.name)
        if package and relation.allows(package.version):
            return package
        providers = index.providers(relation)
        if providers:
            return providers[0]
    return None


def _check_conflicts(chosen: dict[str, IndexedPackage]) -> None:
    clashes = []
    for package in chosen.values():
        for group in relations(package, package.conflicts, package.breaks):
            relation = group[0]
            others = (other for other in chosen.values() if other.name != package.name)
            for other in others:
                if (other.name == relation.name and relation.allows(other.version)) or provides(
                    other, relation
                ):
                    clashes.append(f"{package.name} {package.version} excludes {other.name} {other.version}")
    if clashes:
        raise LockError(
            "these Debian packages cannot be in one image:\n  " + "\n  ".join(clashes),
            hint="change [environment] debian in package.toml",
        )


def _raise_problems(search: _Search) -> None:
    if not search.problems:
        return
    lines = []
    for problem, reasons in sorted(search.problems.items()):
        lines.append(f"  {problem}" + (f" (needed by {_some(reasons)})" if reasons else ""))
    raise LockError(
        "Debian packages that cannot be had:\n" + "\n".join(lines),
        hint="change [environment] debian in package.toml; a base that is too old moves with `mlpkg lock --upgrade`",
    )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def _nearest(index: PackageIndex, name: str) -> str:
    import difflib  # noqa: PLC0415

    # Only names of like length and start are compared: all 69,000 would take seconds.
    likely = [other for other in index.names() if abs(len(other) - len(name)) <= 4 and other[:2] == name[:2]]
    near = difflib.get_close_matches(name, sorted(likely), n=3, cutoff=0.7)
    return f"; nearest: {', '.join(near)}" if near else ""
