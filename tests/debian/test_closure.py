"""Choosing packages: alternatives, virtual names, versions, and what is left out."""

from __future__ import annotations

import pytest

from mlpkg.debian import resolve
from mlpkg.debian.index import PackageIndex, archive_from_text
from mlpkg.debian.relation import parse_relations, parse_version
from mlpkg.errors import LockError

from .archive import Source, locked, packages_text


def index_of(*sources: Source) -> PackageIndex:
    return PackageIndex("trixie", "amd64", (archive_from_text("trixie", packages_text(sources)),))


def package(name: str, version: str = "1.0-1", **relations: str) -> Source:
    return Source(name, version, {key.replace("_", "-"): value for key, value in relations.items()})


def names(index: PackageIndex, *wanted: str) -> list[str]:
    return [deb.name for deb in resolve(index, wanted)]


def test_depends_and_pre_depends_are_followed_to_the_end_and_sorted() -> None:
    index = index_of(
        package("z", Depends="m:any, b (>= 1)"),
        package("m", Pre_Depends="a"),
        package("b"),
        package("a"),
        package("x"),
    )
    assert names(index, "z") == ["a", "b", "m", "z"]
    assert resolve(index, ["z", "z"]) == resolve(index, ["z"])


def test_a_cycle_ends() -> None:
    assert names(index_of(package("a", Depends="b"), package("b", Depends="a")), "a") == ["a", "b"]


@pytest.mark.parametrize(
    ("depends", "expected"),
    [
        ("b | c", ["a", "b"]),
        ("absent | c", ["a", "c"]),
        ("b (>= 9) | c", ["a", "c"]),
        ("virtual", ["a", "b"]),
        ("virtual (= 3)", ["a", "c"]),
    ],
)
def test_the_first_alternative_that_can_be_met(depends: str, expected: list[str]) -> None:
    index = index_of(
        package("a", Depends=depends),
        package("b", Provides="virtual"),
        package("c", Provides="virtual (= 3)"),
    )
    assert names(index, "a") == expected


def test_an_alternative_that_is_chosen_already_counts_first() -> None:
    index = index_of(package("a", Depends="b | c"), package("b"), package("c"))
    assert names(index, "a", "c") == ["a", "c"]


def test_what_only_scripts_need_is_left_out_unless_it_is_wanted() -> None:
    index = index_of(
        package("a", Depends="debconf (>= 0.5) | debconf-2.0, dpkg"), package("debconf"), package("dpkg")
    )
    assert names(index, "a") == ["a"]
    assert names(index, "a", "dpkg") == ["a", "dpkg"]


def test_a_leading_package_may_have_its_own_leave_out() -> None:
    index = index_of(
        package("ca-certificates", Depends="openssl"), package("tool", Depends="openssl"), package("openssl")
    )
    assert names(index, "ca-certificates") == ["ca-certificates"]
    assert names(index, "ca-certificates", "tool") == ["ca-certificates", "openssl", "tool"]


def test_all_names_that_cannot_be_had_are_told_at_once() -> None:
    index = index_of(
        package("one", Depends="gone (>= 2)"),
        package("two", Depends="gone (>= 2)"),
        package("libgomp1"),
        package("v1", Provides="virtual"),
        package("v2", Provides="virtual"),
    )
    with pytest.raises(LockError) as caught:
        resolve(index, ["one", "two", "libgomp", "virtual"])
    text = str(caught.value)
    assert "gone (>= 2): not in Debian trixie (needed by one, two)" in text
    assert "libgomp: no such package in Debian trixie; nearest: libgomp1" in text
    assert "virtual is provided by several: v1, v2; name one" in text
    assert caught.value.exit_code == 2


def test_a_virtual_name_with_one_provider_may_be_wanted() -> None:
    assert names(index_of(package("mawk", Provides="awk")), "awk") == ["mawk"]


def test_packages_that_exclude_each_other() -> None:
    index = index_of(
        package("a", Conflicts="b (<< 2)"), package("b"), package("c", Conflicts="v", Provides="v")
    )
    assert names(index, "b", "c") == ["b", "c"]
    with pytest.raises(LockError, match=r"a 1.0-1 excludes b 1.0-1"):
        resolve(index, ["a", "b"])


def test_what_is_present_is_not_repeated() -> None:
    sources = package("a", Depends="b, c"), package("b", Depends="d"), package("c"), package("d")
    index = index_of(*sources)
    base = resolve(index, ["b"])
    assert [deb.name for deb in base] == ["b", "d"]
    assert [deb.name for deb in resolve(index, ["a", "b"], present=base)] == ["a", "c"]


def test_a_locked_base_that_is_too_old_is_told() -> None:
    old, new = package("libssl3", "3.0.1-1"), package("libssl3", "3.0.9-1")
    index = index_of(new, package("tool", Depends="libssl3 (>= 3.0.5)"))
    with pytest.raises(LockError, match=r"the base is locked with 3.0.1-1 \(needed by tool\)"):
        resolve(index, ["tool"], present=[locked(old)])


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("1.9-1", "1.10-1"),
        ("9", "1:1"),
        ("1.0-1", "1.0-1+b1"),
        ("1.0", "1.0+dfsg"),
        ("2.36-9+deb12u9", "2.36-9+deb12u10"),
        ("1.0a", "1.0+"),
    ],
)
def test_version_order(older: str, newer: str) -> None:
    # Debian Policy §5.6.12: a tilde sorts before the end, letters before other signs.
    assert parse_version(older) < parse_version(newer)


def test_relations_that_make_no_sense_are_refused() -> None:
    assert [str(group[0]) for group in parse_relations("a (>> 1) , b:any,")] == ["a (>> 1)", "b"]
    for text in ("a (~ 1)", "a (>> )", "a (=> 1)", "a |", "a [amd64]", "a <!nocheck>"):
        with pytest.raises(ValueError, match="not a package relation"):
            parse_relations(text)


@pytest.mark.parametrize("field", ["Depends", "Pre-Depends", "Provides", "Conflicts", "Breaks"])
@pytest.mark.parametrize("text", ["b (", "b (>= 1_2)", "b (>> )", "b (= x:1)"])
def test_a_package_whose_relations_make_no_sense_is_named(field: str, text: str) -> None:
    index = index_of(package("a", **{field: text}), package("b"), package("c", Depends="a, d"), package("d"))
    with pytest.raises(LockError, match=r"^a 1\.0-1: "):
        resolve(index, ["c", "b"])


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(LockError, match="broken entry for a"):
        resolve(index_of(package("a", "1_2")), ["a"])


def test_relations_may_go_on_in_further_lines() -> None:
    # "Folded" fields (deb822(5)): archives that are not Debian's keep them as the package has them.
    index = index_of(
        package("a", Depends="b,\n c"),
        package("b", Provides="\n other,\n virtual"),
        package("c", Depends="virtual"),
    )
    assert names(index, "c", "a") == ["a", "b", "c"]
    assert names(index, "virtual") == ["b"]
