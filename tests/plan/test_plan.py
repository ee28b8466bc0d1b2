"""The plan is pure: values in, one text out. The golden files are what users and builders see.

After a wanted change: ``MLPKG_UPDATE_GOLDEN=1 pytest tests/test_plan.py``, read the diff, and move
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
from mlpkg.spec.model import Entry, Environment, Image, Model, PackageSpec, PackageTable, Server

GOLDEN = Path(__file__).parent / "golden"

DIABETES = PackageSpec(
    package=PackageTable(
        name="team/diabetes", version="1.2.0", description='Says "hello" for $5', tags=("latest",)
    ),
    models=(
        Model(name="diabetes", path="model/diabetes.joblib", version=3),
        Model(name="embeddings", path="model/embeddings"),
    ),
    entry=Entry(script="score.py", source_directory="src"),
    environment=Environment(
        requirements="requirements.txt", debian=("libgomp1",), variables={"OMP_NUM_THREADS": "1"}
    ),
    image=Image(labels={"org.example.team": "pricing"}),
    server=Server(workers=2, timeout=2.5, cors_origins=("https://a.example", "https://b.example")),
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
    config = config_json(planned, layers)
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
    one = replace(DIABETES, models=DIABETES.models[:1], entry=Entry(script="sub/score.py"))
    snapshot = replace(
        SNAPSHOT, models=SNAPSHOT.models[:1], model_is_folder=(False,), code=(SourceEntry("score.py", 20),)
    )
    env = dict(plan.plan(one, LOCK, snapshot).config.env)
    assert env["AZUREML_MODEL_DIR"] == "/var/azureml-app/azureml-models/diabetes/3"
    assert env["AZUREML_ENTRY_SCRIPT"] == "score.py"
    assert "AZUREML_SOURCE_DIRECTORY" not in env


def test_the_users_variables_win(planned: plan.BuildPlan) -> None:
    spec = replace(DIABETES, environment=Environment(variables={"WORKER_COUNT": "7"}))
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


def test_a_model_of_very_many_large_files_stays_below_the_engines_limit() -> None:
    shards = tuple(SourceEntry(f"{number:04}.bin", LARGE) for number in range(300))
    spec = replace(DIABETES, models=DIABETES.models[1:])
    snapshot = replace(SNAPSHOT, models=(shards,), model_is_folder=(True,))
    planned = plan.plan(spec, LOCK, snapshot)
    assert len(planned.layers) <= plan.MAX_LAYERS
    assert sum(len(layer.files) for layer in planned.layers if layer.name.startswith("model:")) == 300


def test_two_files_in_one_place_are_refused() -> None:
    twice = (Model(name="a", path="x/m.bin"), Model(name="a", path="y/m.bin"))
    snapshot = replace(SNAPSHOT, models=((SourceEntry("m.bin", 1),),) * 2, model_is_folder=(False, False))
    with pytest.raises(MlpkgError, match=r"two files would be /var/azureml-app/azureml-models/a/1/m\.bin"):
        plan.plan(replace(DIABETES, models=twice), LOCK, snapshot)


def test_a_custom_server_gets_neither_runtime_nor_health_check() -> None:
    spec = PackageSpec(
        package=PackageTable(name="registry"), server=Server(kind="custom", command=("/bin/x",), port=5000)
    )
    planned = plan.plan(spec, replace(LOCK, wheels=(), layers=LOCK.layers[:2]), Snapshot())
    assert [layer.name for layer in planned.layers] == ["base", "system"]
    assert planned.config.command == ("/bin/x",)
    assert planned.config.health_command == ()


def test_an_undefined_name_in_a_template_is_named(planned: plan.BuildPlan) -> None:
    with pytest.raises(MlpkgError, match=r"template Dockerfile\.j2: 'nonsense' is undefined"):
        render.render(planned, {**templates(), "Dockerfile.j2": "{{ nonsense }}"})


def test_what_a_dockerfile_cannot_say_is_refused() -> None:
    spec = replace(DIABETES, environment=Environment(variables={"A": "one\ntwo"}))
    with pytest.raises(MlpkgError, match="line break"):
        render.render(plan.plan(spec, LOCK, SNAPSHOT), templates())


def test_the_original_server_is_started_and_asked_as_it_wants() -> None:
    spec = replace(DIABETES, server=Server(kind="azureml", port=8080, workers=3, timeout=1.5))
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
