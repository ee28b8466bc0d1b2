"""A state folder without room: said in one line, nothing runs that nobody knows. On a small disk of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpkg import engine
from mlpkg.errors import MlpkgError
from mlpkg.registry import bundled as registry
from mlpkg.registry import container, probe, state
from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import RegistryTable, WorkspaceSpec

from .asking import port_of, quiet

pytestmark = pytest.mark.mirror


@pytest.fixture(params=[4, 8, 12])
def small_disk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A state folder of so many KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"this user may not mount: {made.stderr.strip()}")
    monkeypatch.setenv("MLPKG_STATE_HOME", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.long
def test_up_without_room(small_disk: Path, settings: RegistryTable) -> None:
    lines: list[str] = []
    refused: MlpkgError | None = None
    try:
        registry.up(settings, BundledSource(WorkspaceSpec(), quiet), notify=lines.append)
    except MlpkgError as error:
        refused = error
    finally:
        # Room to stop it with: what a test started must end.
        subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    if refused is None:
        assert state.read_state(port_of(settings)), "what runs is known"
        return
    assert refused.exit_code == 1
    assert "No space left on device" in refused.message
    assert "as a process: /" not in "\n".join(lines), "a full disk is no reason for another storage"
    assert not probe.stays_taken(port_of(settings))
    if "DOCKER_HOST" not in os.environ and engine.available() is None:
        assert engine.inspect(container.container_name(port_of(settings))) is None
