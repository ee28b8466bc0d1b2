"""One broken package among three: the others are built and pushed, and the run ends with 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from .house import House, Workspace

pytestmark = pytest.mark.mirror

SPEC = """\
[package]
name = "{name}"

[server]
kind = "custom"
command = ["/usr/bin/true"]

[[models]]
name = "m"
path = "model"
{more}"""


@pytest.fixture
def three(house: House, tmp_path: Path) -> Workspace:
    """Packages a, b and c, of which b is broken."""
    folder = tmp_path / "three"
    for name in ("a", "b", "c"):
        package = folder / "packages" / name
        (package / "model").mkdir(parents=True)
        (package / "model" / "weights").write_text(name)
        (package / "model" / ".env").write_text("TOKEN=canary")
        (package / "package.toml").write_text(
            SPEC.format(name=name, more="wrong = 1\n" if name == "b" else "")
        )
    (folder / "dodo.py").write_text("from mlpkg.tasks import *\n")
    (folder / "mlpkg.toml").write_text(f"[registry]\nport = {house.port}\n")
    return Workspace(folder, house)


def test_a_run_for_all_does_the_sound_ones(three: Workspace) -> None:
    first = three.doit(code=2)
    pushed = [name for name in first.done if name.startswith("push:")]
    assert sorted(pushed) == ["push:a", "push:c"]
    assert "packages/b/package.toml:11: models[0].wrong: unknown key" in first.err
    assert first.err.rstrip().endswith("error: left out, see above: packages/b/package.toml")
    assert three.doit(code=2).done == []
    assert three.doit("-n", "2", code=2).done == []
    again = three.mlpkg("push", "--json", code=2)
    document = again.json()
    assert (document["exit_code"], document["steps"]) == (2, [])
    assert "models[0].wrong" in document["errors"][0]
    assert "packages/b/package.toml" in again.err
    assert "Traceback" not in first.err + again.err


def test_a_run_for_named_packages_ignores_the_others(three: Workspace) -> None:
    built = three.mlpkg("build", "a")
    assert built.done == ["lock:a", "render:a", "build:a"]
    assert "packages/b" not in built.err
    named = three.doit("push:c")
    assert "push:c" in named.done
    assert "packages/b" not in named.err
    for command in (three.mlpkg("push", "b", code=2), three.doit("push:b", code=2)):
        assert "packages/b/package.toml:11" in command.err
        assert command.done == []


@pytest.mark.long
def test_mended_it_is_done_and_nothing_else(three: Workspace) -> None:
    three.mlpkg("build", code=2)
    path = three.folder / "packages" / "b" / "package.toml"
    path.write_text(path.read_text().replace("wrong = 1\n", ""))
    assert sorted(three.mlpkg("build").done) == ["build:b", "lock:b", "render:b"]
    path.write_text("[package\n")
    assert three.mlpkg("build", code=2).done == []
