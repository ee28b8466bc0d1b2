"""Where packages come from: settings first, else the machine's apt."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpkg.debian import choose_mirrors
from mlpkg.debian.apt import parse_deb822, parse_logins, parse_one_line, parse_settings
from mlpkg.debian.transfer import http_settings
from mlpkg.errors import LockError
from mlpkg.http.address import url_origin
from mlpkg.spec.model import DebianTable

SOURCES = """\
# the machine's own
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""


def machine(tmp_path: Path, **files: str) -> Path:
    """A root folder with these files below etc/apt and a keyring."""
    for name, text in files.items():
        path = tmp_path / "root/etc/apt" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    keyring = tmp_path / "root/usr/share/keyrings/archive.gpg"
    keyring.parent.mkdir(parents=True, exist_ok=True)
    keyring.write_bytes(b"key")
    return tmp_path / "root"


def test_deb822_gives_each_address_and_suite_of_enabled_entries() -> None:
    found = [(source.uri, source.suite) for source in parse_deb822(SOURCES)]
    assert found == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/debian-security/", "bookworm-security"),
    ]


def test_deb822_keeps_a_certificate_written_into_the_entry() -> None:
    text = (
        "Types: deb\nURIs: http://a/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
    (source,) = parse_deb822(text)
    assert source.signed_by == "\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc"


def test_one_line_entries_with_options_and_comments() -> None:
    text = (
        "# deb http://no.example/debian trixie main\n"
        "deb-src http://no.example/debian trixie main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://yes.example/debian trixie main contrib # why\n"
    )
    (source,) = parse_one_line(text)
    assert (source.uri, source.suite, source.components, source.signed_by) == (
        "http://yes.example/debian",
        "trixie",
        ("main", "contrib"),
        "/k.gpg",
    )


def test_settings_in_both_styles_with_comments() -> None:
    text = """
    // a comment with "quotes"; in it
    Acquire { http { Proxy "http://proxy.example:3128"; Proxy::direct.example "DIRECT"; }; Retries "3"; };
    Acquire::https::Proxy "http://other.example:8080"; # end
    DPkg::Post-Invoke { "rm -f {a,b}"; };
    """
    values = parse_settings(text)
    assert values["acquire::http::proxy"] == "http://proxy.example:3128"
    assert values["acquire::http::proxy::direct.example"] == "DIRECT"
    assert values["acquire::https::proxy"] == "http://other.example:8080"


def test_logins() -> None:
    (login,) = parse_logins(
        "# x\nmachine http://mirror.example/debian login me password s3cret\nmachine half login me\n"
    )
    assert (login.host, login.user, login.password) == ("mirror.example", "me", "s3cret")
    assert "s3cret" not in repr(login)


def test_the_machines_apt_is_the_default(tmp_path: Path) -> None:
    root = machine(tmp_path, sources_dot_list_dot_d__debian_dot_sources=SOURCES)
    mirrors = choose_mirrors(DebianTable(), root=root, environ={})
    assert mirrors.main == "http://mirror.example/debian"
    assert mirrors.security == "http://mirror.example/debian-security"
    assert [keyring.data for keyring in mirrors.keyrings] == [b"key"]


def test_other_peoples_repositories_are_no_debian_mirror(tmp_path: Path) -> None:
    root = machine(tmp_path, sources_dot_list="deb http://cloud.example/apt cloud-sdk-bookworm main\n")
    with pytest.raises(LockError, match="no Debian mirror") as caught:
        choose_mirrors(DebianTable(), root=root, environ={})
    assert "[debian] mirror" in caught.value.hint


def test_settings_win_and_the_security_archive_lies_beside_the_mirror(tmp_path: Path) -> None:
    root = machine(tmp_path, sources_dot_list_dot_d__debian_dot_sources=SOURCES)
    (tmp_path / "keys.asc").write_bytes(b"mine")
    settings = DebianTable(mirror="http://closed.example/debian/", keyring="keys.asc")
    mirrors = choose_mirrors(settings, folder=tmp_path, root=root, environ={})
    assert (mirrors.main, mirrors.security) == (
        "http://closed.example/debian",
        "http://closed.example/debian-security",
    )
    assert not mirrors.security_required
    assert mirrors.keyrings[0].data == b"mine"


@pytest.mark.parametrize("address", ["http://mirror.example", "http://mirror.example:8080/"])
def test_no_other_host_is_guessed_from_a_mirror_at_its_hosts_root(address: str, tmp_path: Path) -> None:
    root = machine(tmp_path, trusted_dot_gpg_dot_d__a_dot_asc="key")
    mirrors = choose_mirrors(DebianTable(mirror=address), root=root, environ={})
    assert (mirrors.main, mirrors.security) == (address.rstrip("/"), None)


def test_a_snapshot_is_put_into_the_addresses(tmp_path: Path) -> None:
    root = machine(tmp_path, trusted_dot_gpg_dot_d__a_dot_asc="key")
    settings = DebianTable(
        mirror="http://snap.example/archive/debian/{snapshot}", snapshot="20260901T000000Z"
    )
    mirrors = choose_mirrors(settings, root=root, environ={})
    assert mirrors.main == "http://snap.example/archive/debian/20260901T000000Z"


@pytest.mark.parametrize(
    "settings",
    [
        DebianTable(mirror="http://snap.example/{snapshot}"),
        DebianTable(mirror="http://snap.example/debian", snapshot="20260901T000000Z"),
        DebianTable(mirror="ftp://old.example/debian"),
        DebianTable(mirror="http:///debian"),
        DebianTable(mirror="http://mirror.example/debian", keyring="absent.gpg"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: DebianTable, tmp_path: Path) -> None:
    root = machine(tmp_path, trusted_dot_gpg_dot_d__a_dot_asc="key")
    with pytest.raises(LockError):
        choose_mirrors(settings, folder=tmp_path, root=root, environ={})


def test_without_any_keyring_nothing_is_believed(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="no keyring"):
        choose_mirrors(DebianTable(mirror="http://mirror.example/debian"), root=tmp_path, environ={})


def test_user_and_password_never_show(tmp_path: Path) -> None:
    root = machine(tmp_path, trusted_dot_gpg_dot_d__a_dot_asc="key")
    settings = DebianTable(mirror="https://me:s3cr%65t@mirror.example:8443/debian")
    mirrors = choose_mirrors(settings, root=root, environ={"http_proxy": "http://u:s3cret@proxy.example:1"})
    assert mirrors.main == "https://mirror.example:8443/debian"
    assert mirrors.logins[0].password == "s3cret"
    assert "s3cr" not in repr(mirrors)
    bad = DebianTable(mirror="ftp://me:s3cret@mirror.example/debian")
    with pytest.raises(LockError) as caught:
        choose_mirrors(bad, root=root, environ={})
    assert "s3cret" not in str(caught.value)


def test_proxies_by_scheme_and_host(tmp_path: Path) -> None:
    conf = 'Acquire::http::Proxy "http://apt.example:3128";\nAcquire::http::Proxy::near.example "DIRECT";\n'
    root = machine(tmp_path, apt_dot_conf_dot_d__proxy=conf, trusted_dot_gpg_dot_d__a_dot_asc="key")
    environ = {"http_proxy": "http://env.example:1", "no_proxy": "localhost,.intern.example"}
    mirrors = choose_mirrors(DebianTable(mirror="http://far.example/debian"), root=root, environ=environ)
    proxy_for = http_settings(mirrors).proxy_for
    assert proxy_for(url_origin("http://far.example/debian")) == "http://apt.example:3128"
    assert proxy_for(url_origin("https://far.example/debian")) == "http://apt.example:3128"
    assert proxy_for(url_origin("http://near.example/debian")) == ""
    assert proxy_for(url_origin("http://deb.intern.example/debian")) == ""
