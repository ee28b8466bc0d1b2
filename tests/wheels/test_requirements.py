from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpkg.errors import LockError
from mlpkg.wheels.requirements import (
    Requirements,
    read_requirements,
    requirement_inputs,
    requirement_problems,
)

DIGEST = "a" * 64


def read(folder: Path, text: str | bytes, **environment: str) -> Requirements:
    path = folder / "requirements.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_requirements(Path("requirements.txt"), folder=folder, environment=environment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("# only a comment\n\n", ()),
        ("numpy\nscipy >= 1.0  # why\n", ("numpy", "scipy>=1.0")),
        ("numpy\\\n>=1,\\\n<3\n", ("numpy<3,>=1",)),
        ("# a comment that ends so \\\nnumpy\n", ("numpy",)),
        (
            "uvicorn[standard]==1 ; python_version >= '3.9'\n",
            ('uvicorn[standard]==1; python_version >= "3.9"',),
        ),
        ("numpy\r\nscipy\r\n", ("numpy", "scipy")),
        (b"\xef\xbb\xbfnumpy\n", ("numpy",)),
        ("numpy\n".encode("utf-16"), ("numpy",)),
        ("--only-binary :all:\n--prefer-binary\nnumpy", ("numpy",)),
    ],
)
def test_lines(tmp_path: Path, text: str | bytes, expected: tuple[str, ...]) -> None:
    assert read(tmp_path, text).lines == expected


def test_nothing_is_asked_for_without_a_file(tmp_path: Path) -> None:
    assert read_requirements(None, folder=tmp_path) == Requirements()


def test_lines_may_be_given_without_a_file(tmp_path: Path) -> None:
    assert read_requirements(["numpy>=2", "# none"], folder=tmp_path).lines == ("numpy>=2",)


def test_hashes_are_kept_by_normalised_name(tmp_path: Path) -> None:
    text = f"Foo_Bar==1 \\\n  --hash=sha256:{DIGEST} --hash=sha512:00 \\\n  --hash=sha256:{DIGEST[:-1]}b\n"
    found = read(tmp_path, text)
    assert found.lines == ("Foo_Bar==1",)
    assert found.hashes == {"foo-bar": {f"sha256:{DIGEST}", f"sha256:{DIGEST[:-1]}b"}}


def test_included_files_are_read_once_and_listed(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("scipy\n-r ../requirements.txt\n-c limits.txt\n")
    (tmp_path / "more" / "limits.txt").write_text("numpy<3\n")
    found = read(
        tmp_path,
        '-r more/base.txt\n-rmore/base.txt\n-r "more/base.txt"\n--constraint=more/limits.txt\nnumpy\n',
    )
    assert found.lines == ("scipy", "numpy")
    assert found.constraints == ("numpy<3",)
    names = ["requirements.txt", "more/base.txt", "more/limits.txt"]
    assert found.files == tuple(tmp_path.resolve() / name for name in names)
    assert requirement_inputs(Path("requirements.txt"), folder=tmp_path) == found.files


def test_options_name_sources(tmp_path: Path) -> None:
    text = (
        "-i https://${NAME}:${TOKEN}@one.example/simple\n--extra-index-url=https://two.example/${UNSET}\n"
        "--find-links wheels\n-f https://three.example/x\n--trusted-host two.example\n--pre\n"
    )
    found = read(tmp_path, text, NAME="me", TOKEN="hidden")
    assert found.index == "https://me:hidden@one.example/simple"
    assert found.extra_indexes == ("https://two.example/${UNSET}",)
    assert found.find_links == (str(tmp_path.resolve() / "wheels"), "https://three.example/x")
    assert found.insecure_hosts == ("two.example",)
    assert found.prereleases
    assert "hidden" not in repr(found)
    assert read(tmp_path, "--no-index\n-f wheels").index == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-e .", "an editable requirement cannot ship"),
        ("--editable=src", "an editable requirement cannot ship"),
        ("./wheels/mine-1.0-py3-none-any.whl", "is a path"),
        ("mine-1.0-py3-none-any.whl", "is a path"),
        ("/srv/mine", "is a path"),
        ("..", "is a path"),
        ("C:\\mine", "is a path"),
        ("git+https://me:hidden@git.example/mine", "from version control"),
        ("https://me:hidden@one.example/mine-1.0-py3-none-any.whl", "given by its address"),
        ("mine @ https://me:hidden@one.example/mine.whl", "mine is given by an address or path"),
        ("mine @ file:///srv/mine", "mine is given by an address or path"),
        ("-r https://me:hidden@one.example/more.txt", "from an address"),
        ("-r ../other.txt", "outside the package's folder"),
        ("-r missing.txt", "missing.txt cannot be read"),
        ("--no-binary numpy", "the option --no-binary is not supported"),
        ("numpy=>1", "is not a requirement"),
        ("numpy scipy", "is not a requirement"),
        (f"numpy --hash=md5:{DIGEST}", "no sha256 hash"),
    ],
)
def test_refused_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(
        LockError, match=r"^1 problem in the requirements:\n  requirements\.txt:2: "
    ) as caught:
        read(tmp_path, f"scipy\n{line}\n")
    assert message in caught.value.message
    assert "hidden" not in str(caught.value)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read(tmp_path, "-e .\nnumpy\n./here\n")
    assert caught.value.message.startswith("2 problems in the requirements:")
    assert "requirements.txt:1:" in caught.value.message
    assert "requirements.txt:3:" in caught.value.message


def test_a_link_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("numpy\n")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "linked.txt").symlink_to("../secret.txt")
    with pytest.raises(LockError, match="outside the package's folder"):
        read(folder, "-r linked.txt\n")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="not a text in UTF-8"):
        read(tmp_path, b"numpy\n\xff\xfa\n")


_PIECES = st.sampled_from([*"abz019-_.=<>~!@#;:/\\ \t\n'\"[]{}$,", "-r ", "--hash=", "://", "python_version"])


@given(st.lists(_PIECES, max_size=40))
def test_any_text_is_read_or_refused(pieces: list[str]) -> None:
    with suppress(LockError):
        read_requirements("".join(pieces).split("\n"), folder=Path("/nonexistent"), environment={})


def test_problems_name_the_packages_folder(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("\n\n./local\n")
    (tmp_path / "requirements.txt").write_text("numpy\n-r more.txt\n-e .\n-r gone.txt\n-r ../out.txt\n")
    said = [
        "packages/x/more.txt:3: './local' is a path",
        "packages/x/requirements.txt:3: an editable requirement",
        "packages/x/requirements.txt:4: packages/x/gone.txt cannot be read: No such file or directory",
        "packages/x/requirements.txt:5: lies outside the package's folder",
    ]
    name = Path("requirements.txt")
    problems = requirement_problems(tmp_path / name, folder=tmp_path, shown="packages/x")
    for problem, text in zip(problems, said, strict=True):
        assert str(problem).startswith(text)
    with pytest.raises(LockError) as caught:
        read_requirements(name, folder=tmp_path, shown="packages/x")
    for text in said:
        assert f"\n  {text}" in str(caught.value)


def test_a_pipe_is_not_waited_for_and_a_flood_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "flood").open("wb") as file:
        file.truncate(1 << 34)
    (tmp_path / "requirements.txt").write_text("-r pipe\n-r flood\n")
    problems = requirement_problems(Path("requirements.txt"), folder=tmp_path, shown=".")
    assert [problem.message for problem in problems] == [
        "pipe cannot be read: it is not a file",
        "flood cannot be read: it is larger than 16777216 bytes",
    ]
