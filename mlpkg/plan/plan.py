"""The plan: what goes into an image, in which layers, with which configuration. Pure: values in, value out.

All choices are made here; builders and templates decide nothing. The plan names files, never contents,
so that editing a script leaves the plan, and all that hangs on it, as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from mlpkg.digest import Digest, parse_digest
from mlpkg.errors import MlpkgError
from mlpkg.formats import PLAN
from mlpkg.lockfile import PackageLock
from mlpkg.plan.grouping import grouped, shares
from mlpkg.plan.servers import serving
from mlpkg.spec.listing import LARGE, Snapshot, SourceEntry
from mlpkg.spec.model import ModelTable, PackageSpec

APP_ROOT = "/var/azureml-app"
MODELS = f"{APP_ROOT}/azureml-models"
MAX_LAYERS = 120
"""Engines refuse more than 127 layers (images-and-registries §2.1); some room is left for a base."""

NAMED = 3  # models that the comment of a shared layer names


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a layer: where it comes from and where it goes.

    `source` is relative to the folder that `origin` names: the package's, or mlpkg's own files.
    `path` is the place in the image without the leading slash. A link has a `target` and no source;
    an empty file has neither.
    """

    path: str
    mode: int = 0o644
    origin: Literal["package", "mlpkg", ""] = ""
    source: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """One layer. A locked one is known by digest and size; one of files is made of what they contain.

    `contents` says in words what a locked layer holds (``numpy==2.5.5``).
    """

    name: str
    comment: str
    files: tuple[PlannedFile, ...] = ()
    contents: tuple[str, ...] = ()
    digest: Digest | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The runnable part of the image's configuration (OCI image-spec, "Image Configuration")."""

    user: str
    working_dir: str
    env: tuple[tuple[str, str], ...]
    command: tuple[str, ...]
    port: int
    labels: tuple[tuple[str, str], ...]
    health_command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """One image: its layers from the bottom up, its configuration, and the tags it will carry."""

    name: str
    platform: str
    layers: tuple[PlannedLayer, ...]
    config: ImageConfig
    tags: tuple[str, ...]
    format: int = field(default=PLAN)


def plan(spec: PackageSpec, lock: PackageLock, snapshot: Snapshot) -> BuildPlan:
    """Place everything. Raises MlpkgError where two files would have the same place."""
    below, code = [*_locked_layers(lock), *_runtime_layer(spec, lock, snapshot)], _code_layer(spec, snapshot)
    room = MAX_LAYERS - len(below) - len(code)
    if spec.models and room < 2:
        message = (
            f"{spec.package.name}: the lock has {len(lock.layers)} layers, which leaves none for the models"
        )
        raise MlpkgError(message, hint=f"run `mlpkg lock --upgrade {spec.package.name}`")
    layers = [*below, *_model_layers(spec, snapshot, room), *code]
    _check_places(layers)
    tags = tuple(
        dict.fromkeys((*((spec.package.version,) if spec.package.version else ()), *spec.package.tags))
    )
    return BuildPlan(
        name=spec.package.name,
        platform=lock.platform,
        layers=tuple(layers),
        config=_config(spec),
        tags=tags or ("latest",),
    )


def site_packages(python: str) -> str:
    """Where Debian's Python looks for packages that are not Debian's: no leading slash."""
    return f"usr/local/lib/python{python}/dist-packages"


def model_place(model: ModelTable) -> str:
    """The model's version folder in the image, absolute (azure-contract §1.7)."""
    return f"{MODELS}/{model.name}/{model.version}"


def _locked_layers(lock: PackageLock) -> list[PlannedLayer]:
    wheels = {f"wheel:{wheel.name}" for wheel in lock.wheels}
    contents = {
        "base": tuple(f"{deb.name}={deb.version}" for deb in lock.base),
        "system": tuple(f"{deb.name}={deb.version}" for deb in lock.system),
    }
    own = {layer.name for layer in lock.layers} & wheels
    comments = {
        "base": f"Debian {lock.suite}",
        "bytecode": "Python's standard library, compiled",
        "system": "Debian packages of the spec",
        "wheels": "Python packages",
    }
    layers = []
    for layer in lock.layers:
        held = contents.get(layer.name)
        if held is None:
            held = tuple(
                f"{wheel.name}=={wheel.version}"
                for wheel in lock.wheels
                if (f"wheel:{wheel.name}" == layer.name)
                or (layer.name == "wheels" and f"wheel:{wheel.name}" not in own)
            )
        comment = comments.get(layer.name, f"Python package {layer.name.removeprefix('wheel:')}")
        layers.append(PlannedLayer(layer.name, comment, contents=held, digest=layer.digest, size=layer.size))
    return layers


def _runtime_layer(spec: PackageSpec, lock: PackageLock, snapshot: Snapshot) -> list[PlannedLayer]:
    files: list[PlannedFile] = []
    if spec.server.kind == "mlpkg":
        package = f"{site_packages(lock.python)}/mlpkg"
        # The image's package is empty at its top, so that mlpkg's version does not move the layer.
        files.append(PlannedFile(f"{package}/__init__.py"))
        files += [
            PlannedFile(f"{package}/runtime/{entry.path}", 0o644, "mlpkg", f"runtime/{entry.path}")
            for entry in snapshot.runtime
        ]
    if spec.models:
        # KServe mounts an image's /models (peers §2.9).
        files.append(PlannedFile("models", 0o777, target=MODELS))
    if not files:
        return []
    return [
        PlannedLayer("runtime", "mlpkg's scoring server", tuple(sorted(files, key=lambda file: file.path)))
    ]


def _model_layers(spec: PackageSpec, snapshot: Snapshot, room: int) -> list[PlannedLayer]:
    """A layer for each large file and for the rest of each model; some share one where `room` is less."""
    # Sizes decide only by being large or not: the plan stays as it is while a model is trained again.
    large: list[PlannedLayer] = []
    rest: list[PlannedLayer] = []
    for model, entries, is_folder in zip(spec.models, snapshot.models, snapshot.model_is_folder, strict=True):
        name, small = f"model:{model.name}:{model.version}", list[PlannedFile]()
        for entry in entries:
            file = _model_file(model, entry, is_folder=is_folder)
            if entry.size >= LARGE:
                comment = f"model {model.name}: {entry.path}"
                large.append(PlannedLayer(f"{name}/{entry.path}", comment, (file,)))
            else:
                small.append(file)
        if small:
            rest.append(PlannedLayer(name, f"model {model.name} version {model.version}", tuple(small)))
    _check_places([*large, *rest])
    most_large, most_rest = shares(len(large), len(rest), room)
    shared = (*_shared(large, most_large, "models-large"), *_shared(rest, most_rest, "models"))
    return sorted(shared, key=lambda layer: layer.name)


def _shared(layers: Sequence[PlannedLayer], most: int, name: str) -> Iterator[PlannedLayer]:
    """The layers as they are, or merged into `most` at most, each called by its number."""
    known = {layer.name: layer for layer in layers}
    for number, names in grouped(tuple(known), most):
        members = [known[member] for member in names]
        if len(members) == 1:
            yield members[0]
            continue
        files = sorted((file for member in members for file in member.files), key=lambda file: file.path)
        more = f" and {len(members) - NAMED} more" if len(members) > NAMED else ""
        comment = ", ".join(member.comment for member in members[:NAMED]) + more
        yield PlannedLayer(f"{name}:{number:03}", comment, tuple(files))


def _model_file(model: ModelTable, entry: SourceEntry, *, is_folder: bool) -> PlannedFile:
    base = PurePosixPath(model.path).name
    place = f"{model_place(model)[1:]}/{base}" + (f"/{entry.path}" if is_folder else "")
    source = f"{PurePosixPath(model.path)}/{entry.path}" if is_folder else str(PurePosixPath(model.path))
    return _planned(entry, place, source)


def _code_layer(spec: PackageSpec, snapshot: Snapshot) -> list[PlannedLayer]:
    if spec.entry is None:
        return []
    folder = spec.entry.source_directory
    if folder is None:
        (entry,) = snapshot.code
        place = f"{APP_ROOT[1:]}/{entry.path}"
        files = [_planned(entry, place, str(PurePosixPath(spec.entry.script)))]
    else:
        base = source_folder_name(folder, spec.package.name)
        place = f"{APP_ROOT[1:]}/{base}"
        files = [
            _planned(entry, f"{place}/{entry.path}", str(PurePosixPath(folder) / entry.path))
            for entry in snapshot.code
        ]
    return [PlannedLayer("code", "entry script", tuple(files))]


def source_folder_name(folder: str, package: str) -> str:
    """The source folder's own name, which it keeps in the image; a package's root has the package's name."""
    return PurePosixPath(folder).name or package.rsplit("/", 1)[-1]


def _planned(entry: SourceEntry, place: str, source: str) -> PlannedFile:
    if entry.target:
        return PlannedFile(place, 0o777, target=entry.target)
    return PlannedFile(place, 0o755 if entry.is_executable else 0o644, "package", source)


def _check_places(layers: Sequence[PlannedLayer]) -> None:
    seen: dict[str, str] = {}
    for layer in layers:
        for file in layer.files:
            if other := seen.get(file.path):
                raise MlpkgError(
                    f"two files would be /{file.path} in the image: one of layer {other}, one of layer {layer.name}",
                    hint="rename one of them, or one of the models",
                )
            seen[file.path] = layer.name


def _config(spec: PackageSpec) -> ImageConfig:
    environment = _environment(spec)
    script = environment.get("AZUREML_ENTRY_SCRIPT", "")
    served = serving(spec, f"{APP_ROOT}/{script}")
    labels = {"org.opencontainers.image.title": spec.package.name, **spec.image.labels}
    if spec.package.version:
        labels["org.opencontainers.image.version"] = spec.package.version
    if spec.package.description:
        labels["org.opencontainers.image.description"] = spec.package.description
    for name in {model.name for model in spec.models}:
        versions = sorted(model.version for model in spec.models if model.name == name)
        labels[f"org.mlpkg.model.{name}"] = ",".join(map(str, versions))
    return ImageConfig(
        user=f"{spec.image.user}:{spec.image.user}",
        working_dir=APP_ROOT if spec.entry else "/",
        env=tuple(sorted({**environment, **served.env, **spec.environment.variables}.items())),
        command=served.command,
        port=spec.server.port,
        labels=tuple(sorted(labels.items())),
        health_command=served.health,
    )


def _environment(spec: PackageSpec) -> dict[str, str]:
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/home/nonroot",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    }
    if spec.entry:
        env |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **entry_environment(spec, APP_ROOT)}
    return env


def entry_environment(spec: PackageSpec, root: str) -> dict[str, str]:
    """Azure's variables (azure-contract §1.7, §2), with the application below `root`."""
    env = {"AML_APP_ROOT": root}
    if spec.entry:
        script = PurePosixPath(spec.entry.script)
        if spec.entry.source_directory is None:
            env["AZUREML_ENTRY_SCRIPT"] = script.name
        else:
            folder = source_folder_name(spec.entry.source_directory, spec.package.name)
            env |= {"AZUREML_SOURCE_DIRECTORY": folder, "AZUREML_ENTRY_SCRIPT": f"{folder}/{script}"}
    models = f"{root}/azureml-models"
    if len(spec.models) == 1:
        env["AZUREML_MODEL_DIR"] = f"{models}/{spec.models[0].name}/{spec.models[0].version}"
    elif spec.models:
        env["AZUREML_MODEL_DIR"] = models
    return env


def to_json(value: BuildPlan) -> dict[str, Any]:
    """The plan as plain JSON values; fields at their defaults are left out of files and layers."""
    data = asdict(value)
    data["layers"] = [_compact(layer) for layer in data["layers"]]
    data["config"]["env"] = dict(value.config.env)
    data["config"]["labels"] = dict(value.config.labels)
    return data


def _compact(layer: dict[str, Any]) -> dict[str, Any]:
    layer["files"] = [{key: item for key, item in file.items() if item != ""} for file in layer["files"]]
    return {key: item for key, item in layer.items() if item not in ((), [], None, 0)}


def from_json(data: Mapping[str, Any]) -> BuildPlan:
    """Take a plan back from `to_json`. Raises ValueError for another format, KeyError and TypeError for others."""
    if data["format"] != PLAN:
        raise ValueError(f"plan of format {data['format']!r}; this version reads {PLAN}")
    layers = tuple(
        PlannedLayer(
            name=row["name"],
            comment=row["comment"],
            files=tuple(PlannedFile(**file) for file in row.get("files", ())),
            contents=tuple(row.get("contents", ())),
            digest=parse_digest(row["digest"]) if "digest" in row else None,
            size=row.get("size", 0),
        )
        for row in data["layers"]
    )
    config = data["config"]
    return BuildPlan(
        name=data["name"],
        platform=data["platform"],
        layers=layers,
        config=ImageConfig(
            user=config["user"],
            working_dir=config["working_dir"],
            env=tuple(sorted(config["env"].items())),
            command=tuple(config["command"]),
            port=config["port"],
            labels=tuple(sorted(config["labels"].items())),
            health_command=tuple(config["health_command"]),
        ),
        tags=tuple(data["tags"]),
    )
