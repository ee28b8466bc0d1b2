"""What a package and a workspace ask for, as frozen values. The docstrings are the user's reference.

The JSON Schema (`mlpkg schema`) and ``docs/reference/package-toml.md`` are generated from this module:
a string that follows a field is that field's documentation. Values here are already checked; only
`mlpkg.spec.parse` makes them from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTable:
    """`[package]`: what the image is called."""

    name: str
    """Repository in the registry: lower-case letters, digits and single separators, parts split by `/`."""
    version: str | None = None
    """Version tag. It moves (with a notice) in the bundled registry and never elsewhere."""
    description: str = ""
    """One line for people; becomes the image's `org.opencontainers.image.description`."""
    tags: tuple[str, ...] = ()
    """Moving tags beside the version. Without a version and without tags: `latest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """`[[models]]`: a trained model, none, one or several."""

    name: str
    """Model name; the folder below `azureml-models` in the image."""
    path: str
    """File or folder, relative to package.toml, inside its folder. It may be made by a doit task."""
    version: int = 1
    """Whole number from 1; the folder below the name in the image."""
    ignore: tuple[str, ...] = ()
    """Patterns in .gitignore's syntax for what of a folder does not ship, on top of the safe list (left-out.md); `!` takes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryTable:
    """`[entry]`: the script with `init()` and `run(data)`."""

    script: str
    """Python file, relative to `source_directory` where that is given, else to package.toml."""
    source_directory: str | None = None
    """Folder that ships as a whole and is importable; without it only the script ships."""
    ignore: tuple[str, ...] = ()
    """Patterns in .gitignore's syntax for what of `source_directory` does not ship, on top of the safe list (left-out.md); `!` takes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentTable:
    """`[environment]`: what the script needs around it."""

    requirements: str | None = None
    """File in pip's requirements format, relative to package.toml. At most one of this and `conda`."""
    conda: str | None = None
    """Conda environment file, relative to package.toml."""
    debian: tuple[str, ...] = ()
    """Debian packages to add to the image."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the service. Not for secrets: everyone who pulls the image reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTable:
    """`[image]`: how the image is made."""

    base: str = "debian:trixie"
    """`debian:trixie` (Python 3.13) or `debian:bookworm` (Python 3.11), made from Debian's packages."""
    builder: Literal["direct", "docker"] = "direct"
    """`direct` needs neither daemon nor root; `docker` builds the rendered Dockerfile."""
    platforms: tuple[str, ...] = ("linux/amd64",)
    """Target platforms: `linux/amd64` or `linux/arm64`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels and annotations of the image."""
    user: int = 65532
    """Numeric user (and group) of the service. 0, root, only where it is written here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTable:
    """`[server]`: what answers in the container. Without `custom`, `[entry]` is required."""

    kind: Literal["mlpkg", "azureml", "custom"] = "mlpkg"
    """`mlpkg`: this project's server; `azureml`: the original one; `custom`: a command of your own."""
    port: int = 5001
    """Port inside the container, 1 to 65535."""
    workers: int = 1
    """Worker processes. This and the next three: not with `custom`, whose command decides."""
    timeout: float = 60.0
    """Seconds that one call of `run` may take."""
    max_body: int = 100 * 1024 * 1024
    """Largest request body: bytes, or a text such as `"100MiB"`."""
    cors_origins: tuple[str, ...] = ()
    """Origins that browsers may call from; `*` for all."""
    command: tuple[str, ...] = ()
    """`custom` only: the command, as a list."""
    live: str = "/"
    """`custom` only: path that answers 200 while the process lives."""
    ready: str = "/"
    """`custom` only: path that answers 200 when the service can take requests."""
    score: str = "/score"
    """`custom` only: path that scoring requests go to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTable:
    """`[smoke]`: a request that the built image must answer before it is pushed."""

    request: str
    """File with the request's JSON body, relative to package.toml."""
    expect_status: int = 200
    """HTTP status that the answer must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """package.toml: one image."""

    package: PackageTable
    models: tuple[ModelTable, ...] = ()
    entry: EntryTable | None = None
    environment: EnvironmentTable = field(default_factory=EnvironmentTable)
    image: ImageTable = field(default_factory=ImageTable)
    server: ServerTable = field(default_factory=ServerTable)
    smoke: SmokeTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceTable:
    """`[workspace]`: where the packages are."""

    packages: tuple[str, ...] = ("packages/*",)
    """Glob patterns of folders with a package.toml, relative to mlpkg.toml; one that begins with `!` takes folders out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTable:
    """`[registry]`: where images go. Absent: the bundled one."""

    address: str | None = None
    """`host[:port]` of another OCI registry; its credentials come from Docker's configuration."""
    port: int | None = None
    """Port of the bundled registry on 127.0.0.1. Absent: 5050, or the next free one, which is then kept."""
    storage: str | None = None
    """Folder of the bundled registry's data; absent: a named volume, or a folder of mlpkg's own."""
    auth: bool = True
    """Whether the bundled registry asks for its generated credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianTable:
    """`[debian]`: where Debian packages come from. Absent: what the machine's own apt uses."""

    mirror: str | None = None
    """Address of a Debian mirror (the folder that holds `dists` and `pool`)."""
    security_mirror: str | None = None
    """Address of the security archive, where it is not beside the mirror (`<mirror>-security`)."""
    keyring: str | None = None
    """File with the archive's OpenPGP certificates, relative to mlpkg.toml or absolute."""
    snapshot: str | None = None
    """Time stamp (`20260901T000000Z`) that replaces `{snapshot}` in the mirrors' addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonTable:
    """`[python]`: where Python packages come from. Absent: what uv and pip are configured with."""

    index: str | None = None
    """Address of the package index (PEP 503); empty for none at all: then `find_links` holds every wheel."""
    extra_indexes: tuple[str, ...] = ()
    """Further indexes, asked before `index`."""
    find_links: tuple[str, ...] = ()
    """Folders or pages with wheels."""
    ca_file: str | None = None
    """File with the certificates of a corporate authority (PEM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSpec:
    """mlpkg.toml: the settings that all packages of a workspace share."""

    workspace: WorkspaceTable = field(default_factory=WorkspaceTable)
    registry: RegistryTable = field(default_factory=RegistryTable)
    debian: DebianTable = field(default_factory=DebianTable)
    python: PythonTable = field(default_factory=PythonTable)
