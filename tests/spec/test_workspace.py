"""A workspace on disk: which folders are packages, which are broken, and what lies beside the patterns."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlpkg.digest import sha256
from mlpkg.errors import SpecError, UsageError
from mlpkg.spec import discover
from mlpkg.spec.workspace import Workspace, load, read_settings


def put(root: Path, place: str, name: str = "", *, text: str = "") -> Path:
    path = root / place / "package.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    name = name or Path(place).name
    path.write_text(text or f'[package]\nname = "{name}"\n\n[entry]\nscript = "score.py"\n')
    return path


def with_patterns(root: Path, *patterns: str) -> Workspace:
    (root / "mlpkg.toml").write_text(f"[workspace]\npackages = {list(patterns)}\n")
    return load(root)


def names(workspace: Workspace) -> list[str]:
    return [package.name for package in workspace.packages]


def test_one_broken_package_leaves_the_others(tmp_path: Path) -> None:
    put(tmp_path, "packages/a")
    put(tmp_path, "packages/b", text='[package]\nname = "b"\nversion = 1\n')
    put(tmp_path, "packages/c")
    workspace = load(tmp_path)
    assert names(workspace) == ["a", "c"]
    assert [(broken.name, broken.shown) for broken in workspace.broken] == [("b", "packages/b/package.toml")]
    assert [problem.key for problem in workspace.problems] == ["entry", "package.version"]
    assert [package.name for package in workspace.chosen(["c"])] == ["c"]
    assert [package.name for package in workspace.chosen([])] == ["a", "c"]
    with pytest.raises(SpecError, match=r"packages/b/package\.toml:3: package\.version"):
        workspace.package("b")
    with pytest.raises(UsageError, match="no package named 'bb'") as caught:
        workspace.package("bb")
    assert caught.value.hint == "did you mean b?"


def test_a_package_that_cannot_say_its_name_may_be_the_one(tmp_path: Path) -> None:
    put(tmp_path, "packages/a")
    put(tmp_path, "packages/b", text="[package\n")
    workspace = load(tmp_path)
    assert workspace.package("a").name == "a"
    for name in ("b", "other"):
        with pytest.raises(SpecError, match=r"packages/b/package\.toml:1: is not TOML"):
            workspace.package(name)


def test_several_broken_packages_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path, f"packages/{name}", text=f'[package]\nname = "{name}"\n')
    with pytest.raises(SpecError) as caught:
        load(tmp_path).chosen(["a", "b", "a"])
    assert [problem.file for problem in caught.value.problems] == [
        "packages/a/package.toml",
        "packages/b/package.toml",
    ]


def test_two_packages_of_one_name_are_both_broken(tmp_path: Path) -> None:
    put(tmp_path, "packages/a", "same")
    put(tmp_path, "packages/b", "same")
    put(tmp_path, "packages/c")
    workspace = load(tmp_path)
    assert names(workspace) == ["c"]
    with pytest.raises(SpecError, match=r"packages/b/package.toml: .*'same' is also the name of packages/a"):
        workspace.package("same")


def test_a_broken_mlpkg_toml_is_everybodys_business(tmp_path: Path) -> None:
    put(tmp_path, "packages/a")
    (tmp_path / "mlpkg.toml").write_text("[workspace]\npackages = []\n")
    with pytest.raises(SpecError, match=r"mlpkg\.toml:2"):
        load(tmp_path)
    (tmp_path / "mlpkg.toml").unlink()
    os.mkfifo(tmp_path / "mlpkg.toml")
    with pytest.raises(SpecError, match="it is not a file"):
        read_settings(tmp_path)


def test_an_empty_workspace_says_what_was_looked_for(tmp_path: Path) -> None:
    workspace = with_patterns(tmp_path, "packages/*", "more/**")
    with pytest.raises(UsageError) as caught:
        workspace.chosen([])
    assert caught.value.message == (
        f"no packages in {tmp_path}: looked for packages/*/package.toml, more/**/package.toml"
    )
    assert "package.toml" in caught.value.hint
    with pytest.raises(UsageError, match="no packages in"):
        workspace.package("a")


def test_a_package_beside_the_patterns_is_named(tmp_path: Path) -> None:
    put(tmp_path, "models/x")
    put(tmp_path, "packages/a")
    put(tmp_path, "packages/.hidden/deep/a")
    for place in (
        ".git/a",
        ".venv/a",
        "node_modules/a",
        "packages/a/fixtures/inner",
        "other/inner/a",
        "a/b/c/d",
    ):
        put(tmp_path, place)
    (tmp_path / "other" / "dodo.py").write_text("")
    (tmp_path / "link").symlink_to("models")
    with pytest.raises(UsageError) as caught:
        with_patterns(tmp_path, "nothing/*").chosen([])
    assert "models/x/package.toml" in caught.value.hint
    workspace = with_patterns(tmp_path, "packages/*")
    assert names(workspace) == ["a"]
    assert workspace.outside() == (
        'models/x/package.toml lies outside of `packages` in mlpkg.toml: add "models/*" to [workspace] packages,'
        ' or "!models/*" to pass over it'
    )
    assert with_patterns(tmp_path, "packages/*", "models/*").outside() == ""
    assert with_patterns(tmp_path, "packages/*", "!models/*").outside() == ""
    assert names(with_patterns(tmp_path, "packages/*", "models/*", "!models/x")) == ["a"]


def test_the_search_beside_the_patterns_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        put(tmp_path, f"m/p{number:02}")
    note = load(tmp_path).outside()
    assert note.startswith("m/p00/package.toml, m/p01/package.toml")
    assert " and 15 more lie outside" in note
    looked: list[object] = []
    real = os.scandir

    def scandir(path: str) -> object:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for number in range(2000):
        (tmp_path / "data" / f"{number:04}").mkdir(parents=True)
    discover.outside(str(tmp_path), set(), ["packages/*"])
    assert len(looked) <= discover.MOST_FOLDERS + 10


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["packages/*"], ["a", "b"]),
        (["packages/a"], ["a"]),
        (["./packages//a/"], ["a"]),
        (["packages/[ab]"], ["a", "b"]),
        (["packages/?"], ["a", "b"]),
        (["packages/**"], ["a", "b", "c"]),
        (["**"], ["a", "b", "c"]),
        (["packages**"], []),  # no separator: one name, as in `packages*`
        (["packages/[", "packages/a**b"], []),
        (["packages/group/*"], ["c"]),
        (["packages/**", "!packages/group/**"], ["a", "b"]),
        (["nowhere/*"], []),
    ],
)
def test_patterns(tmp_path: Path, patterns: list[str], expected: list[str]) -> None:
    for place in ("packages/a", "packages/b", "packages/group/c", ".git/d", "packages/node_modules/e/f"):
        put(tmp_path, place)
    assert names(with_patterns(tmp_path, *patterns)) == expected


def test_the_workspace_may_be_the_package(tmp_path: Path) -> None:
    put(tmp_path, ".", "top")
    put(tmp_path, "packages/a")
    workspace = load(tmp_path)
    assert [(package.name, package.shown) for package in workspace.packages] == [("top", "package.toml")]
    assert workspace.outside().startswith("packages/a/package.toml lies outside")


def test_links_to_packages(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    put(elsewhere, "out")
    put(root, "store/a")
    put(root, "packages/b")
    packages = root / "packages"
    (packages / "a").symlink_to("../store/a")
    (packages / "out").symlink_to(elsewhere / "out")
    (packages / "spec").mkdir()
    (packages / "spec" / "package.toml").symlink_to(elsewhere / "out" / "package.toml")
    (packages / "gone").mkdir()
    (packages / "gone" / "package.toml").symlink_to("nowhere")
    (packages / "loop").mkdir()
    (packages / "loop" / "package.toml").symlink_to("package.toml")
    workspace = load(root)
    assert names(workspace) == ["a", "b", "out"]  # a folder may lie elsewhere: whoever linked it means it
    assert workspace.packages[0].folder == (root / "store" / "a").resolve()
    assert workspace.packages[2].folder == (elsewhere / "out").resolve()
    said = {broken.shown.split("/")[1]: str(broken.problems[0]) for broken in workspace.broken}
    assert set(said) == {"spec", "gone", "loop"}
    assert "is a link that leads out of its folder" in said["spec"]
    assert "cannot be read" in said["gone"]
    assert "cannot be read" in said["loop"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", os.fsdecode(b"a\xff")])
def test_folders_whose_names_cannot_be_shown(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"packages/{name}", "fine")
    (broken,) = load(tmp_path).broken
    (problem,) = broken.problems
    assert "characters that cannot be shown" in problem.message
    assert str(problem).isprintable()


def test_files_that_are_none(tmp_path: Path) -> None:
    for place in ("pipe", "folder", "device", "flood", "brackets"):
        (tmp_path / "packages" / place).mkdir(parents=True)
    packages = tmp_path / "packages"
    os.mkfifo(packages / "pipe" / "package.toml")
    (packages / "folder" / "package.toml").mkdir()
    with (packages / "flood" / "package.toml").open("wb") as file:
        file.truncate(1 << 34)
    (packages / "brackets" / "package.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    put(tmp_path, "packages/fine")
    workspace = load(tmp_path)
    assert names(workspace) == ["fine"]
    said = {broken.shown.split("/")[1]: broken.problems[0].message for broken in workspace.broken}
    assert said == {
        "pipe": "cannot be read: it is not a file",
        "folder": "cannot be read: Is a directory",
        "flood": "is larger than 1048576 bytes",
        "brackets": "is nested too deeply",
    }


def test_a_thousand_packages_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        put(tmp_path, f"packages/p{number:04}")
    opened: list[str] = []
    real = builtins.open

    def watched(path: object, *arguments: object, **options: object) -> object:
        opened.append(str(path))
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(Path, "open", watched)
    monkeypatch.setattr("io.open", watched)
    workspace = load(tmp_path)
    assert len(workspace.packages) == 1000
    assert len(opened) == len(set(opened)) == 1000
    first = workspace.packages[0]
    assert first.spec_digest == sha256((first.folder / "package.toml").read_bytes())


def test_looking_at_sound_packages_loads_nothing_that_is_for_mistakes(tmp_path: Path) -> None:
    put(tmp_path, "packages/a")
    code = (
        "import sys; from pathlib import Path; from mlpkg.spec.workspace import load; "
        "load(Path(sys.argv[1])); print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(ran.stdout.split())
    assert not loaded & {"difflib", "pathspec", "mlpkg.spec.lines", "mlpkg.spec.syntax", "mlpkg.spec.nearest"}
