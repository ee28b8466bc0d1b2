"""The bundled registry's image, made by mlpkg: the machine's mirror gives its packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlpkg.registry.own_image import BundledSource
from mlpkg.spec.model import WorkspaceSpec

pytestmark = pytest.mark.mirror


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[BundledSource, list[str]]:
    monkeypatch.setenv("MLPKG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    return BundledSource(WorkspaceSpec(), said.append), said


@pytest.mark.long
def test_a_lock_that_serves_no_more_is_chosen_anew(
    source: tuple[BundledSource, list[str]], state_home: Path
) -> None:
    bundled, said = source
    program = bundled.binary()
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert "docker" in version.stdout
    path = state_home / "registry-image" / "package.lock"
    text = path.read_text()
    path.write_text('{"format": 0}')
    digest, _ = bundled.image()
    assert any("serves no more" in line for line in said)
    assert path.read_text() == text
    assert bundled.image()[0] == digest


def test_its_archive_is_whole(source: tuple[BundledSource, list[str]], tmp_path: Path) -> None:
    bundled, _ = source
    digest, stream = bundled.image()
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"".join(stream))
    listed = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, timeout=60, check=True)
    assert f"blobs/sha256/{digest.removeprefix('sha256:')}" in listed.stdout.splitlines()
    assert "manifest.json" in listed.stdout.splitlines()
