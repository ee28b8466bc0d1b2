from __future__ import annotations

from pathlib import Path

import pytest

from mlpkg.errors import LockError
from mlpkg.spec.model import PythonTable
from mlpkg.wheels.requirements import Requirements
from mlpkg.wheels.sources import WheelSources, credentials_for, wheel_sources


def merged(
    tmp_path: Path,
    settings: PythonTable | None = None,
    requirements: Requirements | None = None,
    **environment: str,
) -> WheelSources:
    variables = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "xdg"), **environment}
    return wheel_sources(
        settings or PythonTable(), requirements or Requirements(), folder=tmp_path, environment=variables
    )


def pip_conf(tmp_path: Path, text: str) -> None:
    path = tmp_path / "home" / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_nothing_set_leaves_uv_its_own_ways(tmp_path: Path) -> None:
    found = merged(tmp_path, PIP_CONFIG_FILE="/dev/null")
    assert found == WheelSources()
    assert found.variables() == {}


def test_settings_replace_the_index_of_the_requirements_file(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    settings = PythonTable(
        index="https://one.example/", extra_indexes=("https://two.example/",), find_links=("wheels",)
    )
    asked = Requirements(
        index="https://no.example/", extra_indexes=("https://three.example/",), find_links=("/f",)
    )
    found = merged(
        tmp_path, settings, asked, PIP_INDEX_URL="https://no.example/", PIP_CONFIG_FILE="/dev/null"
    )
    assert found.variables() == {
        "UV_DEFAULT_INDEX": "https://one.example/",
        "UV_INDEX": "https://two.example/ https://three.example/",
        "UV_FIND_LINKS": f"{(tmp_path / 'wheels').resolve().as_uri()},file:///f",
    }


def test_an_empty_index_means_none(tmp_path: Path) -> None:
    found = merged(
        tmp_path,
        PythonTable(index="", extra_indexes=("https://two.example/",)),
        PIP_INDEX_URL="https://no.example/",
        PIP_CONFIG_FILE="/dev/null",
    )
    assert found.variables() == {}
    assert found.arguments() == ["--no-index"]


def test_pips_configuration_is_carried_over(tmp_path: Path) -> None:
    (tmp_path / "present").mkdir()
    text = f"""
        [global]
        index_url = https://conf.example/simple
        find-links =
            {tmp_path}/present
            {tmp_path}/absent
            https://links.example/x
        cert = /etc/corporate.pem
        [install]
        extra-index-url = https://extra.example/%20
        trusted-host = conf.example
    """
    pip_conf(tmp_path, "\n".join(line.removeprefix("        ") for line in text.splitlines()))
    found = merged(tmp_path)
    assert found.index == "https://conf.example/simple"
    assert found.extra_indexes == ("https://extra.example/%20",)
    assert found.find_links == (str((tmp_path / "present").resolve()), "https://links.example/x")
    assert found.variables()["UV_INSECURE_HOST"] == "conf.example"
    assert found.ca_file == "/etc/corporate.pem"
    assert merged(tmp_path, PIP_INDEX_URL="https://env.example/").index == "https://env.example/"
    assert merged(tmp_path, PIP_NO_INDEX="true").index == ""


def test_pips_index_remains_where_only_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    found = merged(tmp_path, PythonTable(find_links=("wheels",)), PIP_INDEX_URL="https://env.example/")
    assert found.index == "https://env.example/"
    assert found.find_links == (str((tmp_path / "wheels").resolve()),)


def test_uvs_own_configuration_is_left_alone(tmp_path: Path) -> None:
    pip_conf(tmp_path, "[global]\nindex-url = https://pip.example/\n")
    assert merged(tmp_path, UV_INDEX_URL="https://uv.example/").index is None
    own = tmp_path / "uv.toml"
    own.write_text('[[index]]\nurl = "https://uv.example/"\n')
    assert merged(tmp_path, UV_CONFIG_FILE=str(own)).index is None
    own.write_text('cache-dir = "/cache"\n')
    assert merged(tmp_path, UV_CONFIG_FILE=str(own)).index == "https://pip.example/"


def test_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    own = str((tmp_path / "ca.pem").resolve())
    assert merged(tmp_path, PythonTable(ca_file="ca.pem"), SSL_CERT_FILE="/other").ca_file == own
    assert merged(tmp_path, SSL_CERT_FILE="/theirs", PIP_CERT="/pip").ca_file is None
    assert merged(tmp_path, REQUESTS_CA_BUNDLE="/bundle", PIP_CERT="/pip").ca_file == "/bundle"
    assert merged(tmp_path, PIP_CERT="/pip").variables() == {"SSL_CERT_FILE": "/pip"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [(PythonTable(find_links=("gone",)), "find_links"), (PythonTable(ca_file="gone"), "ca_file")],
)
def test_what_is_not_there_is_named(tmp_path: Path, settings: PythonTable, key: str) -> None:
    with pytest.raises(LockError, match=rf"mlpkg\.toml: \[python\] {key} names 'gone'"):
        merged(tmp_path, settings)


@pytest.mark.parametrize(
    "address", ["simple", "me:hidden@one.example/simple", "https://a b/", "ftp://one.example/"]
)
def test_an_index_without_an_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(LockError, match="no address") as caught:
        merged(tmp_path, PythonTable(index=address))
    assert "hidden" not in str(caught.value)
    with pytest.raises(LockError, match="no address"):
        merged(tmp_path, requirements=Requirements(extra_indexes=(address,)))


def test_a_torn_pip_configuration_is_named(tmp_path: Path) -> None:
    pip_conf(tmp_path, "no section\n")
    with pytest.raises(LockError, match="pip's configuration cannot be read"):
        merged(tmp_path)


def test_a_comma_in_a_place_does_not_split_it() -> None:
    found = WheelSources(find_links=("/a,b c", "https://one.example/?a,b")).variables()
    assert found == {"UV_FIND_LINKS": "file:///a%2Cb%20c,https://one.example/?a%2Cb"}


def test_credentials_go_to_their_own_place_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = WheelSources(index="https://me:p%40ss@one.example/simple")
    assert credentials_for("https://one.example:443/files/x.whl", sources) == ("me", "p@ss")
    assert credentials_for("http://one.example/files/x.whl", sources) is None
    assert credentials_for("https://two.example/files/x.whl", sources) is None
    assert "p%40ss" not in repr(sources)
    monkeypatch.setenv("UV_INDEX", "corp=https://you:there@two.example/simple")
    assert credentials_for("https://two.example/files/x.whl", sources) == ("you", "there")
