from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mlpkg.digest import Digest, sha256
from mlpkg.errors import LockError, Unreachable
from mlpkg.lockfile import Wheel
from mlpkg.wheels.choose import choose_wheels
from mlpkg.wheels.locked import HEAVY, MOST_HEAVY, heavy, own_layers, requirements_text
from mlpkg.wheels.requirements import read_requirements
from mlpkg.wheels.sources import WheelSources
from mlpkg.wheels.target import Target

from .conftest import Index
from .wheelhouse import make_wheel

TRIXIE = Target("3.13", "linux/amd64", "2.41")
BOOKWORM = Target("3.11", "linux/amd64", "2.36")


def choose(
    lines: Sequence[str],
    sources: WheelSources,
    *,
    target: Target = TRIXIE,
    runtime: Sequence[str] = (),
    previous: Sequence[Wheel] = (),
) -> dict[str, Wheel]:
    requirements = read_requirements(lines, folder=Path("/nonexistent"))
    found = choose_wheels(requirements, runtime=runtime, target=target, sources=sources, previous=previous)
    assert [wheel.name for wheel in found] == sorted(wheel.name for wheel in found)
    return {wheel.name: wheel for wheel in found}


def as_locked(path: Path, name: str, version: str) -> Wheel:
    data = path.read_bytes()
    return Wheel(name, version, path.name, len(data), sha256(data))


def test_nothing_asked_for_is_nothing_chosen(sources: WheelSources) -> None:
    assert choose([], sources) == {}


def test_wheels_are_locked_by_file_size_and_digest(house: Path, sources: WheelSources) -> None:
    alpha = make_wheel(house, "Alpha_Beta", "2.0", requires=["gamma"])
    make_wheel(house, "Alpha_Beta", "1.0")
    gamma = make_wheel(house, "gamma", "1.0")
    assert choose(["alpha-beta"], sources) == {
        "alpha-beta": as_locked(alpha, "alpha-beta", "2.0"),
        "gamma": as_locked(gamma, "gamma", "1.0"),
    }


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        (TRIXIE, "cp313-cp313-manylinux_2_28_x86_64"),
        (BOOKWORM, "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"),
        (Target("3.12", "linux/amd64", "2.36"), "cp39-abi3-manylinux_2_17_x86_64"),
        (Target("3.13", "linux/arm64", "2.41"), "cp313-cp313-manylinux_2_17_aarch64"),
        (Target("3.12", "linux/arm64", "2.41"), "py3-none-any"),
        (Target("3.13", "linux/amd64", "2.27"), "cp313-cp313-manylinux_2_17_x86_64"),
    ],
)
def test_the_wheel_that_fits_the_target_best(
    house: Path, sources: WheelSources, target: Target, tag: str
) -> None:
    for known in (
        "cp313-cp313-manylinux_2_17_x86_64",
        "cp313-cp313-manylinux_2_28_x86_64",
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313t-manylinux_2_28_x86_64",
        "cp313-cp313-musllinux_1_2_x86_64",
        "cp313-cp313-win_amd64",
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp39-abi3-manylinux_2_17_x86_64",
        "py3-none-any",
    ):
        make_wheel(house, "alpha", tag=known)
    assert choose(["alpha"], sources, target=target)["alpha"].filename == f"alpha-1.0-{tag}.whl"


def test_markers_are_those_of_the_target(house: Path, sources: WheelSources) -> None:
    for name in ("always", "arm", "old", "win"):
        make_wheel(house, name)
    make_wheel(house, "root", requires=["win; sys_platform == 'win32'", "always"])
    lines = ["root", "arm; platform_machine == 'aarch64'", "old; python_version < '3.12'"]
    assert set(choose(lines, sources)) == {"always", "root"}
    assert set(choose(lines, sources, target=Target("3.11", "linux/arm64", "2.36"))) == {
        "always",
        "arm",
        "old",
        "root",
    }


def test_earlier_choices_stay_until_asked_to_move(house: Path, sources: WheelSources) -> None:
    for name in ("alpha", "beta"):
        make_wheel(house, name, "1.0")
    first = choose(["alpha", "beta"], sources)
    for name in ("alpha", "beta"):
        make_wheel(house, name, "2.0")
    kept = choose(["alpha", "beta"], sources, previous=tuple(first.values()))
    assert kept == first
    upgraded = choose(["alpha", "beta"], sources)
    assert {wheel.version for wheel in upgraded.values()} == {"2.0"}
    moved = choose(["alpha>1", "beta"], sources, previous=tuple(first.values()))
    assert {name: wheel.version for name, wheel in moved.items()} == {"alpha": "2.0", "beta": "1.0"}


def test_an_earlier_file_stays_though_a_better_one_came(house: Path, sources: WheelSources) -> None:
    make_wheel(house, "alpha")
    first = choose(["alpha"], sources)
    better = make_wheel(house, "alpha", tag="cp313-cp313-manylinux_2_17_x86_64")
    assert choose(["alpha"], sources, previous=tuple(first.values())) == first
    assert choose(["alpha"], sources)["alpha"].filename == better.name


def test_constraints_and_the_server_take_part(house: Path, sources: WheelSources, tmp_path: Path) -> None:
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(house, "alpha", version)
    make_wheel(house, "server", requires=["alpha<3"])
    (tmp_path / "requirements.txt").write_text("alpha\n-c limits.txt\n")
    (tmp_path / "limits.txt").write_text("alpha!=2.0\n")
    requirements = read_requirements(Path("requirements.txt"), folder=tmp_path)
    found = choose_wheels(requirements, runtime=["server"], target=TRIXIE, sources=sources)
    assert [(wheel.name, wheel.version) for wheel in found] == [("alpha", "1.0"), ("server", "1.0")]


def test_prereleases_only_when_asked_for(house: Path, sources: WheelSources) -> None:
    make_wheel(house, "alpha", "1.0")
    make_wheel(house, "alpha", "2.0rc1")
    assert choose(["alpha"], sources)["alpha"].version == "1.0"
    assert choose(["--pre", "alpha"], sources)["alpha"].version == "2.0rc1"


def test_hashes_of_the_requirements_file_decide(house: Path, sources: WheelSources) -> None:
    make_wheel(house, "alpha", tag="cp313-cp313-manylinux_2_17_x86_64")
    plain = as_locked(make_wheel(house, "alpha"), "alpha", "1.0")
    assert choose([f"alpha==1.0 --hash={plain.digest}"], sources) == {"alpha": plain}
    with pytest.raises(
        LockError, match=r"no wheel of alpha 1\.0 for linux/amd64, Python 3\.13, glibc 2\.41 has a hash"
    ):
        choose([f"alpha==1.0 --hash=sha256:{'0' * 64}"], sources)


@pytest.mark.parametrize(
    "tag", ["cp39-cp39-win_amd64", "cp313-cp313-manylinux_2_17_aarch64", "cp312-cp312-any"]
)
def test_a_package_without_a_fitting_wheel_is_named(house: Path, sources: WheelSources, tag: str) -> None:
    make_wheel(house, "only-there", tag=tag)
    with pytest.raises(LockError) as caught:
        choose(["only-there"], sources)
    assert caught.value.message.startswith(
        "no wheel of only-there for linux/amd64, Python 3.13, glibc 2.41:\n"
    )
    assert "find_links" in caught.value.hint
    assert str(house) not in str(caught.value)


def test_an_unknown_package_is_named(sources: WheelSources) -> None:
    with pytest.raises(LockError, match="nosuch was not found") as caught:
        choose(["nosuch"], sources)
    assert "spelling" in caught.value.hint


def test_a_conflict_with_the_server_is_told_from_the_users_own(house: Path, sources: WheelSources) -> None:
    make_wheel(house, "alpha", "1.0")
    make_wheel(house, "alpha", "2.0")
    make_wheel(house, "mine", requires=["alpha<2"])
    with pytest.raises(LockError, match=r"those of the server \(alpha>=2\)"):
        choose(["mine"], sources, runtime=["alpha>=2"])
    with pytest.raises(LockError, match=r"no choice of versions fits[^$]*alpha>=2"):
        choose(["mine", "alpha>=2"], sources, runtime=["alpha"])


def test_settings_for_other_work_do_not_leak_in(
    house: Path, sources: WheelSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_wheel(house, "alpha", "1.0")
    make_wheel(house, "alpha", "2.0")
    (tmp_path / "c.txt").write_text("alpha<2\n")
    monkeypatch.setenv("UV_OVERRIDE", str(tmp_path / "c.txt"))
    monkeypatch.setenv("UV_NO_BINARY", "1")
    assert choose(["alpha"], sources)["alpha"].version == "2.0"


def test_an_index_that_does_not_answer_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Unreachable, match="cannot be reached") as caught:
            choose(["alpha"], WheelSources(index=f"http://me:hidden@127.0.0.1:{port}/simple/"))
    assert "hidden" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("head", [True, False])
def test_an_index_with_credentials(house: Path, serve: Callable[..., Index], head: bool) -> None:
    path = make_wheel(house, "alpha")
    index = serve("me:hidden", head=head)
    found = choose(["alpha"], WheelSources(index=index.with_credentials("me:hidden")))
    assert found == {"alpha": as_locked(path, "alpha", "1.0")}
    assert "hidden" not in requirements_text(list(found.values()))
    assert index.host not in requirements_text(list(found.values()))


def test_wrong_credentials_are_refused_without_showing_them(house: Path, serve: Callable[..., Index]) -> None:
    make_wheel(house, "alpha")
    index = serve("me:hidden")
    with pytest.raises(LockError, match="refuses the credentials") as caught:
        choose(["alpha"], WheelSources(index=index.with_credentials("me:guessed")))
    assert "guessed" not in str(caught.value)
    assert index.host not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (403, LockError, "refuses the credentials"),
        (429, Unreachable, "cannot be reached"),
        (503, Unreachable, "cannot be reached"),
    ],
)
def test_a_broken_index(
    serve: Callable[..., Index], status: int, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        choose(["alpha"], WheelSources(index=serve(broken=status).address))


def test_offline_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(Unreachable, match="network was disabled"):
        choose(["alpha"], WheelSources(index="http://127.0.0.1:1/simple/"))


def test_further_indexes_are_asked_before_the_index(house: Path, serve: Callable[..., Index]) -> None:
    make_wheel(house, "alpha", "1.0")
    index = serve()
    found = choose(
        ["alpha"], WheelSources(index="http://127.0.0.1:9/simple/", extra_indexes=(index.address,))
    )
    assert found["alpha"].version == "1.0"


def test_without_an_index_none_is_asked(
    house: Path, serve: Callable[..., Index], sources: WheelSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(house, "alpha")
    index = serve()
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.address)
    assert set(choose(["alpha"], sources)) == {"alpha"}
    with pytest.raises(LockError, match="was not found in the provided package locations"):
        choose(["nosuch"], sources)
    assert index.requests == []


def test_requirements_text_is_pips_hash_checked_format() -> None:
    digest = sha256(b"")
    wheels = [
        Wheel("beta", "1.0+cpu", "beta-1.0+cpu-py3-none-any.whl", 1, digest),
        Wheel("alpha", "2", "alpha-2-py3-none-any.whl", 1, digest),
    ]
    head, *lines = requirements_text(wheels).splitlines()
    assert head.startswith("# Made by mlpkg")
    assert lines == [
        "alpha==2 \\", f"    --hash={digest}", "beta==1.0+cpu \\", f"    --hash={digest}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "version", "filename", "digest"),
    [
        ("a\n--index-url x", "1", "a-1-py3-none-any.whl", "sha256:" + "0" * 64),
        ("Alpha", "1", "a-1-py3-none-any.whl", "sha256:" + "0" * 64),
        ("a", "1\n-e .", "a-1-py3-none-any.whl", "sha256:" + "0" * 64),
        ("a", "1", "../a-1-py3-none-any.whl", "sha256:" + "0" * 64),
        ("a", "1", "a.whl", "sha256:" + "0" * 64),
        ("a", "1", "a-1-py3-none-any.whl", "sha256:0"),
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(
    name: str, version: str, filename: str, digest: str
) -> None:
    with pytest.raises(LockError):
        requirements_text([Wheel(name, version, filename, 1, Digest(digest))])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("3.13", "linux/s390x", "2.41"), "no wheels for the platform 'linux/s390x'"),
        (Target("3.13", "linux/amd64", "2.12"), "older than any wheel's"),
        (Target("3.13", "linux/amd64", "musl"), "not a version of glibc"),
    ],
)
def test_targets_without_wheels_are_refused(sources: WheelSources, target: Target, message: str) -> None:
    with pytest.raises(LockError, match=message):
        choose(["alpha"], sources, target=target)


def test_heavy_wheels() -> None:
    digest = sha256(b"")
    light = Wheel("a", "1", "a-1-py3-none-any.whl", HEAVY - 1, digest)
    assert not heavy(light)
    assert heavy(Wheel("a", "1", "a-1-py3-none-any.whl", HEAVY, digest))


def test_the_largest_of_too_many_heavy_wheels_have_layers_of_their_own() -> None:
    digest = sha256(b"")
    wheels = [
        Wheel(f"w{number:03}", "1", f"w{number:03}-1-py3-none-any.whl", HEAVY - 1 + number % 150, digest)
        for number in range(300)
    ]
    own = own_layers(wheels)
    assert own == own_layers(reversed(wheels))
    assert len(own) == MOST_HEAVY
    assert own == {f"w{number:03}" for number in (*range(118, 150), *range(268, 300))}
    assert own_layers(wheels[:30]) == {f"w{number:03}" for number in range(1, 30)}
