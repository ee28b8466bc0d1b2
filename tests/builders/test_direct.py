"""The direct builder: what is read, what is kept, and that nothing half-changed is ever recorded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.builders import direct
from mlpkg.builders.direct import Built
from mlpkg.builders.image import FromLock, FromRegistry, Image, ImageLayer
from mlpkg.builders.sources import Sources, layer_stream
from mlpkg.digest import Descriptor, Digest, sha256
from mlpkg.errors import ChangedInput, MlpkgError
from mlpkg.plan.plan import BuildPlan, ImageConfig, PlannedFile, PlannedLayer

CONFIG = ImageConfig("1:1", "/", (), ("/bin/x",), 1, ())
BASE = PlannedLayer("base", "base", contents=("libc6=1",), digest=sha256(b"base"), size=7)


def layer(name: str, *files: str) -> PlannedLayer:
    return PlannedLayer(
        name, name, tuple(PlannedFile(f"app/{file}", 0o644, "package", file) for file in files)
    )


def image(*layers: PlannedLayer) -> BuildPlan:
    return BuildPlan("p", "linux/amd64", (BASE, *layers), CONFIG, ("latest",))


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    for name in ("score.py", "model.bin", "more.bin"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return Sources(tmp_path, tmp_path / "unused", tmp_path)


def first(plan: BuildPlan, sources: Sources) -> Built:
    return direct.build(plan, sources, None, {})


def no_lock(name: str) -> Iterator[bytes]:
    raise AssertionError(name)


def test_a_layers_digest_is_that_of_the_bytes_sent_later(sources: Sources) -> None:
    plan = image(layer("code", "score.py"))
    built = first(plan, sources)
    code = built.image.layers[1]
    sent = b"".join(layer_stream(code, sources, no_lock))
    assert code.digest == code.diff_id == sha256(sent)
    assert code.size == len(sent)
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        assert archive.getnames() == ["app", "app/score.py"]
    assert built.states["score.py"].digest == sha256((sources.package / "score.py").read_bytes())


def test_the_same_files_elsewhere_give_the_same_image(
    sources: Sources, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = image(layer("code", "score.py", "model.bin"))
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("model.bin", "score.py"):
        (other / name).write_bytes((sources.package / name).read_bytes())
        (other / name).chmod(0o600)
        os.utime(other / name, (1, 1))
    assert first(plan, sources).image.digest == first(plan, Sources(other, other, other)).image.digest


def test_only_the_changed_layer_is_read(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = image(layer("model", "model.bin"), layer("code", "score.py"))
    before = first(plan, sources)
    (sources.package / "score.py").write_text("changed")
    opened: list[str] = []
    real = Path.open

    def watched(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path.name)
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", watched)
    after = direct.build(plan, sources, before.image, {"model.bin": before.states["model.bin"]})
    assert opened == ["score.py"]
    assert after.made == ("code",)
    assert after.image.layers[:2] == before.image.layers[:2]


def test_another_mode_is_another_layer(sources: Sources) -> None:
    plan = image(layer("code", "score.py"))
    before = first(plan, sources)
    executable = PlannedLayer("code", "code", (PlannedFile("app/score.py", 0o755, "package", "score.py"),))
    after = direct.build(image(executable), sources, before.image, before.states)
    assert after.made == ("code",)


def test_a_locked_layer_is_taken_by_its_digest(sources: Sources) -> None:
    built = first(image(layer("code", "score.py")), sources)
    base = built.image.layers[0]
    assert (base.digest, base.diff_id, base.size) == (BASE.digest, BASE.digest, BASE.size)
    assert base.origin == FromLock("base")
    assert b"".join(layer_stream(base, sources, lambda name: iter((name.encode(),)))) == b"base"


def test_an_image_survives_its_json(sources: Sources) -> None:
    built = first(image(layer("code", "score.py")), sources).image
    assert Image.from_json(json.loads(json.dumps(built.to_json()))) == built
    foreign = ImageLayer(
        "theirs",
        Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", sha256(b"packed"), 6),
        sha256(b"tar"),
        FromRegistry("localhost:5000/base"),
    )
    manifest = json.loads(built.manifest)
    manifest["layers"].insert(0, foreign.descriptor.to_json())
    theirs = Image(
        json.dumps(manifest), built.config, (foreign, *built.layers), "application/vnd.docker.x+json"
    )
    assert Image.from_json(json.loads(json.dumps(theirs.to_json()))) == theirs
    with pytest.raises(MlpkgError, match="localhost:5000/base only"):
        layer_stream(foreign, sources, no_lock)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("digest", "sha256:" + "0" * 64),
        ("manifest", "{}"),
        ("layers", [{}]),
        ("layers", None),
        ("config", None),
    ],
)
def test_what_is_no_image_is_refused(sources: Sources, key: str, value: object) -> None:
    document = first(image(layer("code", "score.py")), sources).image.to_json()
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Image.from_json({**document, key: value})


def test_big_files_are_digested_in_parallel_to_the_same_digest(sources: Sources) -> None:
    size = direct.THREAD_FROM + 12345
    data = hashlib.shake_128(b"seed").digest(size)
    (sources.package / "model.bin").write_bytes(data)
    built = first(image(layer("model", "model.bin")), sources)
    assert built.states["model.bin"].digest == sha256(data)
    assert built.image.layers[1].size > size


class Changing:
    """A file that is changed by someone else while the builder reads it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
        real = direct._Measure.read

        def read(measure: direct._Measure) -> Iterator[bytes]:
            for number, piece in enumerate(real(measure)):
                if number == 0:
                    self.change(path, change)
                yield piece

        monkeypatch.setattr(direct._Measure, "read", read)

    def change(self, path: Path, how: str) -> None:
        if how == "overwrite":
            with path.open("r+b") as file:
                file.seek(-10, os.SEEK_END)
                file.write(b"0123456789")
        elif how == "truncate":
            os.truncate(path, path.stat().st_size // 2)
        elif how == "append":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            path.with_name("new").write_bytes(path.read_bytes())
            path.with_name("new").replace(path)


@pytest.mark.parametrize("how", ["overwrite", "truncate", "append", "replace"])
def test_a_file_that_changes_while_it_is_read_fails_with_its_name(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = sources.package / "model.bin"
    path.write_bytes(b"m" * (3 << 20))
    os.utime(path, (1, 1))
    Changing(path, monkeypatch, how)
    with pytest.raises(ChangedInput, match=r"model\.bin: changed"):
        first(image(layer("model", "model.bin")), sources)


def test_a_file_that_changes_before_it_is_sent_fails_with_its_name(sources: Sources) -> None:
    plan = image(layer("model", "model.bin"))
    built = first(plan, sources)
    path = sources.package / "model.bin"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ChangedInput, match=r"model\.bin: changed since"):
        for _ in layer_stream(built.image.layers[1], sources, no_lock):
            pass


def test_a_vanished_file_is_named(sources: Sources) -> None:
    (sources.package / "score.py").unlink()
    with pytest.raises(ChangedInput, match=r"score\.py: cannot be read"):
        first(image(layer("code", "score.py")), sources)


def test_states_hold_only_until_the_file_changes(sources: Sources) -> None:
    plan = image(layer("code", "score.py"))
    before = first(plan, sources)
    state = before.states["score.py"]
    stale = {"score.py": replace(state, digest=Digest("sha256:" + "0" * 64))}
    after = direct.build(plan, sources, before.image, stale)
    assert after.image == before.image
    assert after.states["score.py"] == replace(state, read_at=after.states["score.py"].read_at)
