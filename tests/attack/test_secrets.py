"""A canary in every place where a secret may lie: none shows in a layer, config, log, record, lock or error.

The servers demand the secrets, so that each run proves that they were used. docs/security.md, "Secrets".
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from pysequoia import Tsk

from mlpkg.debian import base_packages, choose_mirrors, load_index
from mlpkg.errors import MlpkgError
from mlpkg.registry import bundled
from mlpkg.spec.model import DebianTable, RegistryTable
from tests.debian.archive import Item, SignedArchive, Source
from tests.debian.conftest import Served, archive, key, served
from tests.ports import free_port
from tests.registry.source import BinarySource
from tests.wheels.wheelhouse import FOREIGN_SETTINGS, make_wheel

from .secrets_house import (
    Guarded,
    basic,
    canary,
    fetched,
    found_in,
    guarded,
    real_registry,
    search,
    spellings,
)

__all__ = ["archive", "key", "served"]

CALLERS = {
    name: canary(name)
    for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "HF_TOKEN", "DATABASE_URL")
}
"""Variables of who calls mlpkg."""

FILES = (
    ".env", ".env.local", ".netrc", ".pypirc", ".git-credentials", ".git/config", ".ssh/id_ed25519", "id_rsa",
    "tls.key", "tls.pem", "client.p12", ".aws/credentials", ".azure/token.json", ".docker/config.json",
    ".kube/config", ".gnupg/secring.gpg",
)  # fmt: skip
"""Files in the folder of code that must not ship (the safe list of mlpkg.spec)."""

FOLDERS = ("code", "model")
"""Folders of the package that such files lie in."""

PROXIED = "http://index.test/simple/"


@dataclass
class Place:
    """A workspace whose surroundings are full of secrets."""

    folder: Path
    guard: Guarded
    port: int
    storage: Path
    environment: dict[str, str]
    said: list[bytes] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def secrets(self) -> dict[str, tuple[bytes, ...]]:
        places = {
            "index": self.guard.index_password,
            "proxy": self.guard.proxy_password,
            "registry": canary("registry"),
            "git": canary("git"),
            **CALLERS,
        }
        places |= {
            f"{where}/{name}": canary(f"{where}/{name}") for where in ("code", "model") for name in FILES
        }
        return {place: spellings(secret) for place, secret in places.items()}

    def run(
        self, *arguments: str, code: int | None = 0, **changes: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run mlpkg; what it said is kept for the search."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.workspace,
            env={**self.environment, **changes},
            capture_output=True,
            timeout=240,
            check=False,
        )
        self.said.append(done.stdout + b"\n" + done.stderr)
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert code is None or done.returncode == code, f"{arguments}: exit {done.returncode}\n{text}"
        assert "Traceback" not in text
        return done

    def shown(self, *, but: str = "") -> list[str]:
        """Where a secret shows, beside the user's own files and a folder."""
        found = [
            f"output {number}: {place}"
            for number, text in enumerate(self.said)
            for place in found_in(text, self.secrets)
        ]
        for root in (
            *(self.workspace.glob("**/.mlpkg")),
            self.folder / "cache",
            self.folder / "state",
            self.folder / "uv-cache",
            self.storage.parent,
        ):
            if root.name == but:
                continue
            found += search(root, self.secrets)
        for lock in (*self.workspace.rglob("*.lock"), *self.workspace.rglob(".doit*")):
            found += [f"{lock}: {place}" for place in found_in(lock.read_bytes(), self.secrets)]
        return found

    def requirements(self, *lines: str) -> None:
        (self.workspace / "requirements.txt").write_text("\n".join([*lines, "guest", ""]))

    def settings(self, *python: str) -> None:
        (self.workspace / "mlpkg.toml").write_text(
            '[workspace]\npackages = ["."]\n'
            f'[registry]\naddress = "127.0.0.1:{self.port}"\n'
            '[debian]\nmirror = "http://debian.test/debian"\nkeyring = "archive.pgp"\n'
            + "".join(f"{line}\n" for line in ("[python]", *python))
        )

    def log_in(self, password: str) -> None:
        auth = basic("robot", password).split()[1]
        config = {"auths": {f"127.0.0.1:{self.port}": {"auth": auth}}}
        (self.folder / "docker").mkdir(exist_ok=True)
        (self.folder / "docker" / "config.json").write_text(json.dumps(config))


def with_password(password: str) -> str:
    return PROXIED.replace("://", f"://robot:{quote(password, safe='')}@")


@pytest.fixture
def place(tmp_path: Path, registry_program: Path, key: Tsk) -> Iterator[Place]:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "guest")
    make_wheel(wheels, "httptools", tag="cp313-cp313-manylinux_2_17_x86_64")
    mirror = SignedArchive(tmp_path / "mirror", key)
    names = base_packages("trixie", with_python=True)
    mirror.publish("trixie", [Source(name, items=(Item(f"./usr/share/{name}/x", b"x"),)) for name in names])
    port = free_port()
    with ExitStack() as stack:
        guard = stack.enter_context(guarded(wheels, mirror.root))
        storage = stack.enter_context(
            real_registry(registry_program, tmp_path / "registry", port, canary("registry"))
        )
        own = {name: value for name, value in os.environ.items() if name not in FOREIGN_SETTINGS}
        environment = {
            **own,
            **CALLERS,
            "HOME": str(tmp_path / "home"),
            "MLPKG_CACHE_HOME": str(tmp_path / "cache"),
            "MLPKG_STATE_HOME": str(tmp_path / "state"),
            "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
            "UV_HTTP_RETRIES": "0",
            "DOCKER_CONFIG": str(tmp_path / "docker"),
            "http_proxy": guard.proxy,
            "https_proxy": guard.proxy,
            "no_proxy": "127.0.0.1",
        }
        made = Place(tmp_path, guard, port, storage, environment)
        _fill(made, mirror)
        yield made


def _fill(made: Place, mirror: SignedArchive) -> None:
    root = made.workspace
    (made.folder / "home").mkdir()
    (root / "model").mkdir(parents=True)
    for where in FOLDERS:
        for name in FILES:
            path = root / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(canary(f"{where}/{name}"))
    (root / "code" / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    (root / "model" / "weights.bin").write_bytes(b"weights")
    (root / "archive.pgp").write_bytes(mirror.certificate)
    (root / ".git").mkdir()
    address = f"https://robot:{quote(canary('git'), safe='')}@git.test/x.git"
    (root / ".git" / "config").write_text(f'[remote "origin"]\n\turl = {address}\n')
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / "package.toml").write_text(
        '[package]\nname = "a"\nversion = "1"\n[[models]]\nname = "m"\npath = "model"\n'
        '[entry]\nscript = "score.py"\nsource_directory = "code"\n'
        '[environment]\nrequirements = "requirements.txt"\n'
    )
    made.settings()
    made.requirements(f"--index-url {with_password(made.guard.index_password)}")
    made.log_in(canary("registry"))


def test_no_secret_shows_from_lock_to_push(place: Place) -> None:
    for command in ("lock", "plan", "build", "push"):
        place.run("mlpkg", command)
    plan = place.run("mlpkg", "plan", "--json").stdout
    assert b"weights.bin" in plan
    assert place.guard.used == {"proxy", "index"}
    status, manifest = fetched(place.port, "/v2/a/manifests/1", canary("registry"))
    assert status == 200
    assert fetched(place.port, "/v2/a/manifests/1", "wrong")[0] == 401
    config = fetched(
        place.port, f"/v2/a/blobs/{json.loads(manifest)['config']['digest']}", canary("registry")
    )[1]
    assert "Entrypoint" in json.loads(config)["config"]
    assert found_in(manifest + config, place.secrets) == []
    assert place.shown() == []
    # The search sees: what ships is found where it lies.
    assert search(place.storage, {"model": (b"weights",)})


@pytest.mark.long
def test_no_secret_shows_when_services_refuse(place: Place) -> None:
    for broken, code in (("index", 2), ("down", 4), ("proxy", 4)):
        place.guard.broken = broken
        place.run("mlpkg", "lock", code=code)
    place.guard.broken = ""
    place.run("mlpkg", "lock")
    place.run("mlpkg", "build")
    wrong = canary("wrong")
    place.log_in(wrong)
    place.run("mlpkg", "push", code=1)
    (place.folder / "docker" / "config.json").write_text(
        json.dumps({"auths": {f"127.0.0.1:{place.port}": {"auth": f"{wrong}!"}}})
    )
    place.run("mlpkg", "push", code=2)
    place.log_in(canary("registry"))
    place.settings("extra_indexes = []")
    (place.workspace / "mlpkg.toml").write_text(
        (place.workspace / "mlpkg.toml").read_text().replace(str(place.port), str(free_port()))
    )
    place.run("mlpkg", "push", code=None)
    assert place.shown() == []
    assert not any(text in said for said in place.said for text in spellings(wrong))


WAYS = {
    "an address in UV_DEFAULT_INDEX": {"UV_DEFAULT_INDEX": "{index}"},
    "an address in UV_INDEX": {"UV_INDEX": "own={index}"},
    "an address in PIP_INDEX_URL": {"PIP_INDEX_URL": "{index}"},
    "a variable of the requirements file": {"INDEX_PASSWORD": "{escaped}"},
    "pip.conf": {},
    "uv.toml": {},
    ".netrc": {},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("broken", ["", "index"])
@pytest.mark.long
def test_no_way_to_log_in_to_an_index_shows(place: Place, way: str, broken: str) -> None:
    password = place.guard.index_password
    index = with_password(password)
    escaped = quote(password, safe="")
    place.requirements()
    config = place.folder / "home" / ".config"
    if way == "a variable of the requirements file":
        place.requirements(f"--index-url {PROXIED.replace('://', '://robot:${INDEX_PASSWORD}@')}")
    elif way == "pip.conf":
        (config / "pip").mkdir(parents=True)
        (config / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
    elif way == "uv.toml":
        (config / "uv").mkdir(parents=True)
        (config / "uv" / "uv.toml").write_text(f'[[index]]\nurl = "{index}"\ndefault = true\n')
    elif way == ".netrc":
        place.settings(f'index = "{PROXIED}"')
        (place.folder / "home" / ".netrc").write_text(f"machine index.test login robot password {password}\n")
    place.guard.broken = broken
    changes = {name: value.format(index=index, escaped=escaped) for name, value in WAYS[way].items()}
    done = place.run("mlpkg", "lock", code=2 if broken else 0, **changes)
    assert broken or "index" in place.guard.used, done.stderr
    assert place.shown() == []


@pytest.mark.parametrize("broken", ["", "index", "down", "moved"])
@pytest.mark.parametrize("shape", ["http://index.test/{token}/simple/", "http://index.test/simple/{token}"])
@pytest.mark.long
def test_a_token_in_the_path_of_an_index_does_not_show(place: Place, shape: str, broken: str) -> None:
    """uv keeps it in its own cache, which is the user's."""
    place.requirements(f"--index-url {shape.format(token=quote(place.guard.index_password, safe=''))}")
    place.guard.broken = broken.replace("moved", "")
    if broken == "moved":
        place.requirements("--index-url http://index.test/" + place.guard.index_password, "absent==7")
    place.run("mlpkg", "lock", code=None)
    assert place.shown(but="uv-cache") == []


@pytest.mark.parametrize(
    "line",
    [
        'index = "{index}"',
        'extra_indexes = ["{index}"]',
        'find_links = ["{index}"]',
        'index = "{index} "',
        'index = "ftp://{rest}"',
    ],
)
def test_a_secret_in_mlpkg_toml_is_refused_and_not_shown(place: Place, line: str) -> None:
    index = with_password(place.guard.index_password)
    place.settings(line.format(index=index, rest=index.removeprefix("http://")))
    place.run("mlpkg", "lock", code=2)
    assert place.shown() == []


@pytest.mark.parametrize(
    "line",
    [
        "-e git+{index}#egg=x",
        "x @ {index}x-1.0-py3-none-any.whl",
        "{index}x-1.0-py3-none-any.whl",
        "-r {index}more.txt",
        "--index-url {index}%zz",
        "--index-url ftp://{rest}",
        "--extra-index-url '{index} x'",
        "--find-links {index}",
        "--proxy {index}",
        "--proxy={index}",
        "x==1 --config-settings={index}",
    ],
)
@pytest.mark.long
def test_a_secret_in_a_line_that_is_refused_is_not_shown(place: Place, line: str) -> None:
    index = with_password(place.guard.index_password)
    place.requirements(line.format(index=index, rest=index.removeprefix("http://")))
    place.run("mlpkg", "lock", code=None)
    assert place.shown() == []


def test_the_bundled_registrys_password_is_in_one_private_file(
    place: Place, registry_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DOCKER_HOST": f"unix://{place.folder}/no.sock",
        "MLPKG_STATE_HOME": str(place.folder / "state"),
    }.items():
        monkeypatch.setenv(name, value)
        place.environment[name] = value
    port = free_port()
    settings = RegistryTable(port=port)
    text = (place.workspace / "mlpkg.toml").read_text()
    (place.workspace / "mlpkg.toml").write_text(
        text.replace(f'address = "127.0.0.1:{place.port}"', f"port = {port}")
    )
    endpoint = bundled.up(settings, BinarySource(registry_program), notify=lambda _: None)
    try:
        login = endpoint.credentials
        assert login
        place.run("mlpkg", "push")
        place.run("mlpkg", "registry", "status", code=None)
        assert fetched(port, "/v2/a/manifests/1", login.password, login.username)[0] == 200
        secrets_file = place.folder / "state" / "registry" / str(port) / "secrets.json"
        held = {"password": spellings(login.password, login.username)}
        assert found_in(secrets_file.read_bytes(), held)
        assert secrets_file.stat().st_mode & 0o777 == 0o600
        assert search(place.folder, held) == [f"{secrets_file}: password"]
        for said in place.said:
            assert found_in(said, held) == []
        bundled.down(settings)
        place.run("mlpkg", "push", code=None)
        assert found_in(place.said[-1], held) == []
    finally:
        bundled.down(settings)
    assert place.shown() == []


@pytest.mark.parametrize("failing", ["", "refused", "absent"])
def test_a_mirrors_login_of_apt_does_not_show(served: Served, tmp_path: Path, failing: str) -> None:
    """auth.conf cannot be elsewhere than below /etc: given here as another root."""
    served.archive.publish("trixie", [Source("libc6")])
    password = canary("apt")
    host = served.address.removeprefix("http://")
    (tmp_path / "root/etc/apt").mkdir(parents=True)
    (tmp_path / "root/etc/apt/auth.conf").write_text(f"machine {host} login robot password {password}\n")
    (tmp_path / "key.pgp").write_bytes(served.archive.certificate)
    mirrors = choose_mirrors(
        DebianTable(mirror=served.address, keyring="key.pgp"),
        folder=tmp_path,
        root=tmp_path / "root",
        environ={},
    )
    said = repr(mirrors)
    if failing == "refused":
        served.failures[:] = [401] * 20
    try:
        load_index(mirrors, "bookworm" if failing == "absent" else "trixie", "amd64", tmp_path / "cache")
        assert not failing
    except MlpkgError as error:
        assert failing
        said += f"{error}{error!r}"
    assert {item.get("authorization") for item in served.headers} == {basic("robot", password)}
    secrets = {"apt": spellings(password)}
    assert found_in(said.encode(), secrets) == []
    if not failing:
        assert search(tmp_path / "cache", secrets) == []


def test_the_search_finds_each_spelling(tmp_path: Path) -> None:
    secret = canary("self")
    encoded = base64.b64encode(f"robot:{secret}".encode()).decode()
    for number, text in enumerate((secret, quote(secret, safe=""), encoded)):
        (tmp_path / str(number)).write_text(f"before {text} after")
    assert len(search(tmp_path, {"self": spellings(secret)})) == 3
