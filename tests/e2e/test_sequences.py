"""Steps done out of turn, and the run after the run: what is recorded is what was built, tagged and sent."""

from __future__ import annotations

import base64
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.digest import Descriptor, parse_digest
from mlpkg.registry import layers
from mlpkg.remote.client import Registry
from mlpkg.remote.credentials import Credentials

from .house import Workspace

pytestmark = pytest.mark.mirror


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def client_of(workspace: Workspace) -> Registry:
    login = workspace.mlpkg("registry", "credentials", "--json").json()
    return Registry(f"127.0.0.1:{workspace.house.port}", Credentials(login["username"], login["password"]))


def test_a_push_by_itself_sends_what_was_tagged_and_records_that(workspace: Workspace) -> None:
    edit(workspace.package / "package.toml", 'version = "1.0.0"', 'version = "1.0.0"\ntags = ["never"]')
    workspace.doit("render")
    workspace.doit("-s", "push:diabetes")
    assert workspace.record("push.json")["tags"] == ["1.0.0"]
    with client_of(workspace) as client:
        assert "never" not in client.tags("diabetes")
        workspace.doit()
        assert workspace.record("push.json")["tags"] == ["1.0.0", "never"]
        assert "never" in client.tags("diabetes")
    assert workspace.doit().done == []


def test_a_push_by_itself_after_a_render_knows_nothing_of_the_new_plan(workspace: Workspace) -> None:
    """The plan has a layer more than the image: the image is sent as it was built."""
    before = workspace.digest()
    (workspace.package / "second.bin").write_bytes(b"a model")
    edit(
        workspace.package / "package.toml",
        "[entry]",
        '[[models]]\nname = "more"\npath = "second.bin"\n\n[entry]',
    )
    workspace.doit("render")
    (workspace.folder / ".mlpkg" / "diabetes" / "push.json").unlink()
    workspace.doit("-s", "push:diabetes")
    assert workspace.record("push.json")["digest"] == before
    workspace.doit()
    assert workspace.record("push.json")["digest"] == workspace.digest() != before
    assert workspace.doit().done == []


def test_a_built_image_is_not_pushed_under_the_tags_of_another(workspace: Workspace) -> None:
    edit(workspace.package / "score.py", "import json", "import json  # edited")
    workspace.doit("build")
    assert workspace.doit("-s", "push:diabetes").done == []
    (workspace.folder / ".mlpkg" / "diabetes" / "push.json").unlink()
    run = workspace.doit("-s", "push:diabetes", code=1)
    assert "built anew and not tagged since" in run.out + run.err
    workspace.doit()
    assert workspace.record("push.json")["digest"] == workspace.digest()


def test_edits_there_and_back_again(workspace: Workspace) -> None:
    first, script = workspace.digest(), workspace.package / "score.py"
    text = script.read_text()
    script.write_text(text + "\n# more\n")
    workspace.doit()
    second = workspace.digest()
    assert second != first
    script.write_text(text)
    workspace.doit()
    assert workspace.digest() == first == workspace.record("push.json")["digest"]
    assert workspace.doit().done == []


def test_a_record_of_another_package_is_not_believed(workspace: Workspace) -> None:
    shutil.copytree(workspace.package, workspace.folder / "examples" / "other")
    edit(
        workspace.folder / "examples" / "other" / "package.toml",
        'name = "diabetes"\nversion',
        'name = "other"\nversion',
    )
    records = workspace.folder / ".mlpkg"
    shutil.copytree(records / "diabetes", records / "other")
    run = workspace.doit("push:other")
    assert {"render:other", "build:other", "tag:other", "push:other"} <= set(run.done)
    with client_of(workspace) as client:
        assert client.tags("other") == ["1.0.0"]


def test_a_second_package_mounts_the_locked_layers_of_the_first(workspace: Workspace) -> None:
    second = workspace.folder / "examples" / "second"
    shutil.copytree(workspace.package, second)
    edit(second / "package.toml", 'name = "diabetes"\nversion', 'name = "second"\nversion')
    workspace.doit("push:second")
    receipt = workspace.record("push.json", "second")
    assert receipt["mounted"] == 4
    assert receipt["bytes"] < 1_000_000
    assert workspace.doit("push:second").done == []


def test_kept_layers_are_manifests_and_survive_in_the_registry(workspace: Workspace) -> None:
    rows = workspace.record("image.json")["layers"]
    locked = [Descriptor.from_json(row["descriptor"]) for row in rows if "lock" in row["origin"]]
    assert len(locked) == 4
    with client_of(workspace) as client:
        assert set(client.tags(layers.REPOSITORY)) >= {layers.tag(layer) for layer in locked}
        small = min(locked, key=lambda layer: layer.size)
        assert sum(len(piece) for piece in layers.read(client, small)) == small.size
        assert parse_digest(small.digest)


def test_what_a_registry_lost_is_found_by_asking_and_pushed_again(workspace: Workspace) -> None:
    shutil.copytree(workspace.package, workspace.folder / "examples" / "lost")
    edit(
        workspace.folder / "examples" / "lost" / "package.toml",
        'name = "diabetes"\nversion',
        'name = "lost"\nversion',
    )
    workspace.doit("push:lost")
    digest = workspace.record("push.json", "lost")["digest"]
    login = workspace.mlpkg("registry", "credentials", "--json").json()
    pair = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{workspace.house.port}/v2/lost/manifests/{digest}",
        method="DELETE",
        headers={"Authorization": f"Basic {pair}"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 202
    assert workspace.mlpkg("push", "lost").done == []
    run = workspace.mlpkg("push", "--check", "lost")
    assert f"lost: 127.0.0.1:{workspace.house.port} has no {digest}" in run.err
    assert run.done == ["push:lost"]
    with client_of(workspace) as client:
        assert client.tags("lost") == ["1.0.0"]
    assert workspace.mlpkg("push", "--check", "lost").done == []


@pytest.mark.long
def test_a_machine_without_a_cache_takes_locked_layers_from_the_registry(
    workspace: Workspace, tmp_path: Path
) -> None:
    """To lock other wheels the image's Python is needed, which lies in the base layer."""
    bare = Workspace(workspace.folder, replace(workspace.house, cache=tmp_path / "cache"))
    edit(bare.package / "requirements.txt", "joblib==1.5.2", "joblib==1.5.1")
    run = bare.doit("lock")
    assert "layer base: not in the local cache, taken from the registry" in run.out + run.err
    assert "making it from the lock" not in run.out + run.err
