"""The plan is pure: values in, one text out. The golden files are what users and builders see.

After a wanted change: ``MLPKG_UPDATE_GOLDEN=1 pytest tests/plan/test_plan.py``, read the diff, and move
`mlpkg.formats.PLAN` where old plans would now give another image.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.builders.manifest import config_json, manifest_json
from mlpkg.digest import Descriptor, sha256
from mlpkg.errors import MlpkgError
from mlpkg.layer import MEDIA_TYPE
from mlpkg.lockfile import Deb, LockedLayer, PackageLock, Wheel
from mlpkg.plan import plan, render
from mlpkg.plan.resources import templates
from mlpkg.spec.listing import LARGE, Snapshot, SourceEntry
from mlpkg.spec.model import (
    EntryTable,
    EnvironmentTable,
    ImageTable,
    ModelTable,
    PackageSpec,
    PackageTable,
    ServerTable,
)

GOLDEN = Path(__file__).parent / "golden"

DIABETES = PackageSpec(
    package=PackageTable(
        name="team/diabetes", version="1.2.0", description='Says "hello" for $5', tags=("latest",)
    ),
    models=(
        ModelTable(name="diabetes", path="model/diabetes.joblib", version=3),
        ModelTable(name="embeddings", path="model/embeddings"),
    ),
    entry=EntryTable(script="score.py", source_directory="src"),
    environment=EnvironmentTable(
        requirements="requirements.txt", debian=("libgomp1",), variables={"OMP_NUM_THREADS": "1"}
    ),
    image=ImageTable(labels={"org.example.team": "pricing"}),
    server=ServerTable(workers=2, timeout=2.5, cors_origins=("https://a.example", "https://b.example")),
)

LOCK = PackageLock(
    inputs=sha256(b"inputs"),
    suite="trixie",
    platform="linux/amd64",
    python="3.13",
    debian=("libgomp1",),
    base=(
        Deb("libc6", "2.41-12", "amd64", "pool/main/g/glibc/libc6_2.41-12_amd64.deb", 10, sha256(b"libc6")),
    ),
    system=(
        Deb("libgomp1", "14.2", "amd64", "pool/main/g/gcc/libgomp1_14.2_amd64.deb", 10, sha256(b"gomp")),
    ),
    wheels=(
        Wheel(
            "numpy", "2.3.5", "numpy-2.3.5-cp313-cp313-manylinux_2_28_x86_64.whl", 20_000_000, sha256(b"np")
        ),
        Wheel("six", "1.17.0", "six-1.17.0-py2.py3-none-any.whl", 11_000, sha256(b"six")),
    ),
    layers=(
        LockedLayer("base", sha256(b"base"), 1000, "f"),
        LockedLayer("system", sha256(b"system"), 2000, "f"),
        LockedLayer("wheel:numpy", sha256(b"numpy"), 3000, "f"),
        LockedLayer("wheels", sha256(b"wheels"), 4000, "f"),
    ),
)

SNAPSHOT = Snapshot(
    code=(SourceEntry("lib/tool.sh", 10, is_executable=True), SourceEntry("score.py", 20)),
    models=(
        (SourceEntry("diabetes.joblib", 100),),
        (
            SourceEntry("config.json", 5),
            SourceEntry("latest", 0, target="config.json"),
            SourceEntry("shard-1.bin", LARGE),
            SourceEntry("shard-2.bin", LARGE + 1),
        ),
    ),
    model_is_folder=(False, True),
    runtime=(SourceEntry("__init__.py", 1), SourceEntry("__main__.py", 2)),
)


@pytest.fixture
def planned() -> plan.BuildPlan:
    return plan.plan(DIABETES, LOCK, SNAPSHOT)


def check(name: str, data: bytes) -> None:
    path = GOLDEN / name
    if os.environ.get("MLPKG_UPDATE_GOLDEN"):
        path.write_bytes(data)
    assert data.decode() == path.read_text(), f"{path} differs; see the top of this file"


def test_rendered_files_are_the_golden_ones(planned: plan.BuildPlan) -> None:
    files = render.render(planned, templates())
    assert set(files) == {"plan.json", "Dockerfile", ".dockerignore"}
    check("plan.json", files["plan.json"])
    check("Dockerfile", files["Dockerfile"])
    check("dockerignore", files[".dockerignore"])


def test_image_documents_are_the_golden_ones(planned: plan.BuildPlan) -> None:
    layers = [Descriptor(MEDIA_TYPE, sha256(layer.name.encode()), 512) for layer in planned.layers]
    config = config_json(planned, [layer.digest for layer in layers])
    check("config.json", json.dumps(json.loads(config), indent=1).encode() + b"\n")
    manifest = manifest_json(planned, config, layers)
    check("manifest.json", json.dumps(json.loads(manifest), indent=1).encode() + b"\n")
    # The digest that every registry would show. It must fail when the bytes of an image change: bump knowingly.
    check("digest", sha256(manifest).encode() + b"\n")


def test_a_plan_survives_its_file(planned: plan.BuildPlan) -> None:
    assert plan.from_json(json.loads(render.plan_bytes(planned))) == planned


def test_a_plan_of_another_format_is_refused(planned: plan.BuildPlan) -> None:
    with pytest.raises(ValueError, match="format 999"):
        plan.from_json({**plan.to_json(planned), "format": 999})


def layers(planned: plan.BuildPlan) -> dict[str, list[str]]:
    return {layer.name: [file.path for file in layer.files] for layer in planned.layers}


def test_each_large_file_of_a_model_has_a_layer(planned: plan.BuildPlan) -> None:
    folder = "var/azureml-app/azureml-models/embeddings/1/embeddings"
    assert layers(planned)["model:embeddings:1/shard-1.bin"] == [f"{folder}/shard-1.bin"]
    assert layers(planned)["model:embeddings:1"] == [f"{folder}/config.json", f"{folder}/latest"]


def test_layers_that_move_least_come_first(planned: plan.BuildPlan) -> None:
    order = [layer.name for layer in planned.layers]
    assert order[:5] == ["base", "system", "wheel:numpy", "wheels", "runtime"]
    assert order[-1] == "code"


def test_azures_layout_for_one_and_for_several_models(planned: plan.BuildPlan) -> None:
    several = dict(planned.config.env)
    assert several["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models"
    assert several["AZUREML_ENTRY_SCRIPT"] == "src/score.py"
    assert several["AZUREML_SOURCE_DIRECTORY"] == "src"
    one = replace(DIABETES, models=DIABETES.models[:1], entry=EntryTable(script="sub/score.py"))
    snapshot = replace(
        SNAPSHOT, models=SNAPSHOT.models[:1], model_is_folder=(False,), code=(SourceEntry("score.py", 20),)
    )
    env = dict(plan.plan(one, LOCK, snapshot).config.env)
    assert env["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models/diabetes/3"
    assert env["AZUREML_ENTRY_SCRIPT"] == "score.py"
    assert "AZUREML_SOURCE_DIRECTORY" not in env


def test_the_users_variables_win(planned: plan.BuildPlan) -> None:
    spec = replace(DIABETES, environment=EnvironmentTable(variables={"WORKER_COUNT": "7"}))
    assert dict(plan.plan(spec, LOCK, SNAPSHOT).config.env)["WORKER_COUNT"] == "7"
    assert dict(planned.config.env)["WORKER_COUNT"] == "2"


@pytest.mark.parametrize(
    ("version", "tags", "expected"),
    [
        (None, (), ("latest",)),
        ("1.0", (), ("1.0",)),
        ("1.0", ("latest", "1"), ("1.0", "latest", "1")),
        (None, ("nightly",), ("nightly",)),
        ("1.0", ("1.0",), ("1.0",)),
    ],
)
def test_tags(version: str | None, tags: tuple[str, ...], expected: tuple[str, ...]) -> None:
    spec = replace(DIABETES, package=PackageTable(name="p", version=version, tags=tags))
    assert plan.plan(spec, LOCK, SNAPSHOT).tags == expected


def many(count: int, *, locked: int = 4, large: int = 0, without: int = -1) -> plan.BuildPlan:
    """A plan of so many models of one small file each, one of which has `large` files beside it."""
    models = tuple(
        ModelTable(name=f"m{number:03}", path=f"m/{number}") for number in range(count) if number != without
    )
    shards = tuple(SourceEntry(f"shard-{number:03}", LARGE) for number in range(large))
    entries = (SourceEntry("a.bin", 1),)
    trees = tuple((*entries, *shards) if number == 0 else entries for number in range(len(models)))
    own = tuple(
        LockedLayer(f"wheel:w{number:03}", sha256(b"%d" % number), 9, "f")
        for number in range(locked - len(LOCK.layers))
    )
    return plan.plan(
        replace(DIABETES, models=models),
        replace(LOCK, layers=(*LOCK.layers, *own)),
        replace(SNAPSHOT, models=trees, model_is_folder=(True,) * len(models)),
    )


def model_files(planned: plan.BuildPlan) -> list[str]:
    models = [layer for layer in planned.layers if layer.name.startswith("model")]
    return [file.path for layer in models for file in layer.files]


@pytest.mark.parametrize("count", [1, 2, 113, 114, 115, 300, 1000])
@pytest.mark.parametrize("large", [0, 1, 60, 113, 300])
@pytest.mark.parametrize("locked", [4, 68, 110, 116])
def test_any_number_of_models_stays_below_the_engines_limit(count: int, large: int, locked: int) -> None:
    planned = many(count, large=large, locked=locked)
    assert len(planned.layers) <= plan.MAX_LAYERS
    assert len({layer.name for layer in planned.layers}) == len(planned.layers)
    files = model_files(planned)
    assert len(files) == len(set(files)) == count + large
    assert planned == many(count, large=large, locked=locked)


def test_each_model_has_a_layer_where_there_is_room() -> None:
    assert len(many(114).layers) == plan.MAX_LAYERS
    assert [layer.name for layer in many(114).layers][5:8] == ["model:m000:1", "model:m001:1", "model:m002:1"]


def test_a_layer_with_several_models_is_named_plainly() -> None:
    shared = [layer for layer in many(300).layers if layer.name.startswith("models:")]
    assert len(shared) > 40
    assert [layer.name for layer in shared] == sorted(layer.name for layer in shared)
    assert shared[0].name == "models:000"
    first = shared[0].files[0].path.split("/")[3]
    assert shared[0].comment.startswith(f"model {first} version 1, model ")
    large = [layer for layer in many(3, large=300).layers if layer.name.startswith("models-large:")]
    assert large[0].comment.startswith("model m000: shard-")
    assert all(len(layer.comment) < 200 for layer in (*shared, *large))


def test_one_model_less_moves_one_layer() -> None:
    before, after = many(300), many(300, without=150)
    moved = {layer.name for layer in before.layers} ^ {layer.name for layer in after.layers}
    known = {layer.name: layer for layer in after.layers}
    moved |= {layer.name for layer in before.layers if known.get(layer.name) != layer}
    assert len(moved) <= 2


def test_one_heavy_wheel_more_moves_no_model() -> None:
    before, after = many(300), many(300, locked=5)
    assert model_files(before) == model_files(after)


def test_a_lock_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(MlpkgError, match="the lock has 119 layers") as caught:
        many(1, locked=119)
    assert "mlpkg lock --upgrade team/diabetes" in caught.value.hint


def test_two_versions_of_one_model_both_show() -> None:
    models = tuple(ModelTable(name="m", path=f"m/{version}", version=version) for version in (10, 2, 1))
    snapshot = replace(SNAPSHOT, models=((SourceEntry("a", 1),),) * 3, model_is_folder=(True,) * 3)
    labels = dict(plan.plan(replace(DIABETES, models=models), LOCK, snapshot).config.labels)
    assert labels["org.mlpkg.model.m"] == "1,2,10"


def test_two_files_in_one_place_are_refused() -> None:
    twice = (ModelTable(name="a", path="x/m.bin"), ModelTable(name="a", path="y/m.bin"))
    snapshot = replace(SNAPSHOT, models=((SourceEntry("m.bin", 1),),) * 2, model_is_folder=(False, False))
    with pytest.raises(MlpkgError, match=r"two files would be /var/azureml-app/azureml-models/a/1/m\.bin"):
        plan.plan(replace(DIABETES, models=twice), LOCK, snapshot)


def test_a_custom_server_gets_neither_runtime_nor_health_check() -> None:
    spec = PackageSpec(
        package=PackageTable(name="registry"),
        server=ServerTable(kind="custom", command=("/bin/x",), port=5000),
    )
    planned = plan.plan(spec, replace(LOCK, wheels=(), layers=LOCK.layers[:2]), Snapshot())
    assert [layer.name for layer in planned.layers] == ["base", "system"]
    assert planned.config.command == ("/bin/x",)
    assert planned.config.health_command == ()


def test_an_undefined_name_in_a_template_is_named(planned: plan.BuildPlan) -> None:
    with pytest.raises(MlpkgError, match=r"template Dockerfile\.j2: 'nonsense' is undefined"):
        render.render(planned, {**templates(), "Dockerfile.j2": "{{ nonsense }}"})


def test_what_a_dockerfile_cannot_say_is_refused() -> None:
    spec = replace(DIABETES, environment=EnvironmentTable(variables={"A": "one\ntwo"}))
    with pytest.raises(MlpkgError, match="line break"):
        render.render(plan.plan(spec, LOCK, SNAPSHOT), templates())


def test_the_original_server_is_started_and_asked_as_it_wants() -> None:
    spec = replace(DIABETES, server=ServerTable(kind="azureml", port=8080, workers=3, timeout=1.5))
    planned = plan.plan(spec, LOCK, SNAPSHOT)
    assert planned.config.command == (
        "/usr/bin/python3", "-P", "-m", "azureml_inference_server_http",
        "--entry_script", "/var/azureml-app/src/score.py", "--port", "8080",
    )  # fmt: skip
    env = dict(planned.config.env)
    assert (env["WORKER_COUNT"], env["SCORING_TIMEOUT_MS"]) == ("3", "1500")
    assert "8080" in planned.config.health_command[-1]
    (runtime,) = [layer for layer in planned.layers if layer.name == "runtime"]
    assert [file.path for file in runtime.files] == ["models"]


def test_no_two_layers_share_a_place_in_the_build_context() -> None:
    files = (plan.PlannedFile("a"),)
    layers = tuple(
        plan.PlannedLayer(name, name, files) for name in ("model:a-1:2", "model:a:1/2", "model:a:1-2")
    )
    built = plan.BuildPlan(
        "p", "linux/amd64", layers, plan.ImageConfig("1:1", "/", (), ("/x",), 1, ()), ("latest",)
    )
    text = render.render(built, templates())["Dockerfile"].decode()
    places = [line for line in text.splitlines() if line.startswith("COPY")]
    assert len(set(places)) == 3
