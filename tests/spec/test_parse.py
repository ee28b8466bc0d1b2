"""Spec files: the corpora in `specs/`, values, lines of problems, and that no text makes the parser raise."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpkg.digest import sha256
from mlpkg.errors import Problem, SpecError
from mlpkg.spec import fields
from mlpkg.spec.fields import NOT_YET, RULES, fields_of
from mlpkg.spec.lines import key_lines
from mlpkg.spec.model import ModelTable, PackageSpec, SmokeTable, WorkspaceSpec
from mlpkg.spec.parse import (
    LARGEST,
    MOST,
    load_package,
    load_workspace,
    name_in,
    parse_package,
    parse_workspace,
)
from mlpkg.spec.words import key_path, key_text

SPECS = Path(__file__).parent / "specs"
VALID = sorted((SPECS / "valid").glob("*.toml"))
INVALID = sorted((SPECS / "invalid").glob("*.toml"))

LEAST = '[package]\nname = "a"\n\n[entry]\nscript = "score.py"\n'


def parsed(path: Path) -> tuple[PackageSpec | WorkspaceSpec | None, tuple[Problem, ...]]:
    text = path.read_bytes().decode()
    if path.name.startswith("mlpkg-"):
        return parse_workspace(text, shown=path.name)
    return parse_package(text, shown=path.name)


def package(text: str) -> PackageSpec:
    spec, problems = parse_package(text, shown="package.toml")
    assert spec is not None, problems
    return spec


def messages(text: str) -> list[str]:
    return [str(problem) for problem in parse_package(text, shown="package.toml")[1]]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid(path: Path) -> None:
    spec, problems = parsed(path)
    assert spec is not None
    assert not problems


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid(path: Path) -> None:
    spec, problems = parsed(path)
    assert spec is None
    expected = path.with_suffix(".txt").read_text(encoding="utf-8")
    assert "".join(f"{problem}\n" for problem in problems) == expected


def test_the_corpora_are_whole() -> None:
    assert len(INVALID) >= 35
    assert {path.stem for path in INVALID} == {p.stem for p in (SPECS / "invalid").glob("*.txt")}


def test_all_that_is_not_supported_yet_is_in_the_corpus() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (SPECS / "invalid").glob("*.txt")]
    for later in NOT_YET.values():
        assert any(f"not supported yet ({later.instead})" in text or later.instead in text for text in texts)


def test_values_of_the_full_example() -> None:
    spec = package((SPECS / "valid" / "package-full.toml").read_text(encoding="utf-8"))
    assert spec.package.tags == ("latest",)
    assert spec.models == (ModelTable(name="diabetes", version=3, path="model/diabetes.joblib"),)
    assert spec.entry is not None
    assert (spec.entry.script, spec.entry.source_directory) == ("score.py", "src")
    assert spec.environment.variables == {"OMP_NUM_THREADS": "1"}
    assert (spec.server.max_body, spec.server.timeout) == (100 * 1024 * 1024, 60.0)


@pytest.fixture
def smoke_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a later version has lifted the limit."""
    later = {key: value for key, value in NOT_YET.items() if key != (PackageSpec, "smoke")}
    monkeypatch.setattr(fields, "NOT_YET", later)
    monkeypatch.setattr(fields, "_FIELDS", {})


@pytest.mark.usefixtures("smoke_is_supported")
def test_smoke() -> None:
    assert package(LEAST + '[smoke]\nrequest = "./a.json"\n').smoke == SmokeTable(request="a.json")
    assert package(LEAST + '[smoke]\nrequest = "a"\nexpect_status = 422\n').smoke == SmokeTable(
        request="a", expect_status=422
    )
    path = "a relative path with `/`, without `..`, below the folder of this file"
    assert messages(LEAST + "[smoke]\nexpect_status = 99\n") == [
        f"package.toml:6: smoke.request: missing (give {path})",
        "package.toml:7: smoke.expect_status: found 99; allowed: a whole number from 100 to 599",
    ]
    (message,) = messages(LEAST + '[smoke]\nrequest = ""\n')
    assert message == f'package.toml:7: smoke.request: found ""; allowed: {path}'


def test_no_hint_leads_to_what_is_not_supported_yet() -> None:
    for text in ("[smokes]\n", 'expect_status = 200\nrequest = "a"\n'):
        found = messages(text + LEAST)
        assert found
        assert not any("smoke]" in message or "`smoke`" in message for message in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ('index = ""', ""), ('index = "file:///srv/simple"', "file:///srv/simple")],
)
def test_an_empty_index_is_none_at_all(text: str, expected: str | None) -> None:
    spec, problems = parse_workspace(f"[python]\n{text}\n", shown="mlpkg.toml")
    assert spec is not None, problems
    assert spec.python.index == expected


def test_a_whole_number_serves_as_a_number() -> None:
    timeout = package(LEAST + "[server]\ntimeout = 30\n").server.timeout
    assert (timeout, type(timeout)) == (30.0, float)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7), ('"7B"', 7), ('"1GB"', 10**9), ('"100MiB"', 100 << 20), ('"2 kB"', 2000), ('"2GiB"', 1 << 31)],
)
def test_sizes(text: str, expected: int) -> None:
    assert package(LEAST + f"[server]\nmax_body = {text}\n").server.max_body == expected


@pytest.mark.parametrize(
    "text", ['"7"', '"1.5MB"', '"MB"', '"1 mb"', '"-1MB"', "1.0", "true", '"1EB"', '"9999999TiB"']
)
def test_no_sizes(text: str) -> None:
    assert len(messages(LEAST + f"[server]\nmax_body = {text}\n")) == 1


def test_paths_lose_what_says_nothing() -> None:
    spec = package(LEAST + '[[models]]\nname = "m"\npath = "./a//b/./c/"\n')
    assert spec.models[0].path == "a/b/c"


def test_integers_longer_than_python_prints() -> None:
    (message,) = messages(LEAST + f"[server]\nport = 0x{'f' * 5000}\n")
    assert "found a number of more than 64 bits" in message
    (message,) = messages(LEAST + f"[server]\nmax_body = '{'9' * 5000}B'\n")
    assert 'found "9999' in message


def test_one_mistake_is_reported_once() -> None:
    assert len(messages(LEAST + '[server]\nkind = "custon"\ncommand = ["x"]\n')) == 1
    assert len(messages('server = 3\n[package]\nname = "a"\n')) == 1
    assert len(messages('entry = 3\n[package]\nname = "a"\n')) == 1


def test_loads_files(tmp_path: Path) -> None:
    path = tmp_path / "package.toml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    spec, digest = load_package(path, shown="package.toml")
    assert spec.package.name == "a"
    assert digest == sha256(path.read_bytes())
    path = tmp_path / "mlpkg.toml"
    path.write_text("[registry]\nport = 5055\n")
    assert load_workspace(path, shown="mlpkg.toml").registry.port == 5055


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[package]\nname = '\xff'\n", "a.toml:2: is not UTF-8 text (save it with the encoding UTF-8)"),
        (b"#" * (LARGEST + 1), "a.toml: is larger than 1048576 bytes (is it the right file?)"),
        (b"a = " + b"[" * 5000, "a.toml:1: is nested too deeply"),
        (None, "a.toml: cannot be read: No such file or directory"),
    ],
    ids=["encoding", "size", "depth", "absent"],
)
def test_refuses_files(tmp_path: Path, data: bytes | None, expected: str) -> None:
    path = tmp_path / "a.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load_package(path, shown="a.toml")
    assert [str(problem) for problem in caught.value.problems] == [expected]
    assert caught.value.exit_code == 2


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_workspace(tmp_path, shown="mlpkg.toml")


def test_no_password_is_shown() -> None:
    for path in INVALID:
        assert "hunter2" not in "".join(str(problem) for problem in parsed(path)[1])
    spec = LEAST + '[image]\nbase = "https://me:hunter2@registry.example/base"\n'
    assert "hunter2" not in "".join(messages(spec))


def test_lines_of_keys() -> None:
    text = """\
a.b = 1 # "x
[t] # [no]
s = '''
[u]
k = 1'''
l = [ # ]
  [1, 2], "]",
  { x = "}", "y.z" = [3] },
]
[[m]]
[m.sub]
"q\\u0041" = 2026-01-01 07:00:00
[[m]]
"""
    assert key_lines(text) == {
        ("a",): 1,
        ("a", "b"): 1,
        ("t",): 2,
        ("t", "s"): 3,
        ("t", "l"): 6,
        ("t", "l", 0): 7,
        ("t", "l", 0, 0): 7,
        ("t", "l", 0, 1): 7,
        ("t", "l", 1): 7,
        ("t", "l", 2): 8,
        ("t", "l", 2, "x"): 8,
        ("t", "l", 2, "y.z"): 8,
        ("t", "l", 2, "y.z", 0): 8,
        ("m",): 10,
        ("m", 0): 10,
        ("m", 0, "sub"): 11,
        ("m", 0, "sub", "qA"): 12,
        ("m", 1): 13,
    }


def test_lines_of_deep_values() -> None:
    text = f"a = {'[' * 3000}{']' * 3000}\nb = 1\n"
    lines = key_lines(text)
    assert (lines["a",], lines["b",]) == (1, 2)


def test_key_paths_as_text() -> None:
    assert key_text(("models", 0, "path")) == "models[0].path"
    assert key_text(("image", "labels", "org.example")) == 'image.labels."org.example"'
    assert key_path("models[12].path") == ("models", 12, "path")


def test_every_rule_has_its_field_and_every_number_its_limits() -> None:
    for table, name in RULES:
        assert name in fields_of(table)
        field = fields_of(table)[name]
        assert field.kind not in ("whole", "number") or field.rule.maximum is not None
        assert field.rule.allowed


KEYS = sorted(
    {"package", "models", "entry", "environment", "image", "server", "smoke", "name", "zzz", '"a b"', "''"}
    | {name for table, _ in RULES for name in fields_of(table)}
)
VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "-1",
            "0.5",
            "nan",
            "true",
            '""',
            '"a"',
            "'..'",
            '"/"',
            '"""\na"""',
            "1979-05-27",
            '"1MB"',
            '"\\u0000"',
        ]
    )
    | st.integers().map(str)
    | st.text(st.characters(exclude_characters="'\n\r", categories=("L", "N", "P", "Z"))).map("'{}'".format),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",\n ".join(items) + "]")
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs.items()) + "}"
        )
    ),
    max_leaves=4,
)
LINES = st.one_of(
    st.sampled_from(KEYS).map("[{}]".format),
    st.sampled_from(KEYS).map("[[{}]]".format),
    st.tuples(st.sampled_from(KEYS), VALUES).map(" = ".join),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), VALUES).map(lambda p: f"{p[0]}.{p[1]} = {p[2]}"),
    st.text(max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=8).map("\n".join))
def test_any_text_gives_a_spec_or_problems(text: str) -> None:
    for parse in (parse_package, parse_workspace):
        spec, problems = parse(text, shown="x.toml")
        assert (spec is None) == bool(problems)
        last = text.replace("\r\n", "\n").count("\n") + 1
        assert all(problem.line is None or 1 <= problem.line <= last for problem in problems)
        assert all(line.isprintable() for problem in problems for line in str(problem).splitlines())


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=8).map("\n".join))
def test_every_key_has_a_line(text: str) -> None:
    try:
        document = tomli.loads(text)
    except (ValueError, RecursionError):
        return
    lines = key_lines(text)
    for key, value in document.items():
        assert (key,) in lines
        if isinstance(value, dict):
            assert all((key, name) in lines for name in value)
        if isinstance(value, list):
            assert all((key, index) in lines for index in range(len(value)))


RAW = st.text(
    st.sampled_from("[]{}=.,#\\\"' \n\r\t\0\x1b\u2028a0é😀_-+:") | st.characters(exclude_categories=["Cs"]),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(
    st.tuples(st.sampled_from(["", LEAST, "[python]\n", "[environment]\n", "[[models]]\n"]), RAW).map("".join)
)
def test_any_characters_give_a_spec_or_problems(text: str) -> None:
    """Harder than the lines above: nearly none is TOML, so that this is about what syntax problems show."""
    for parse in (parse_package, parse_workspace):
        spec, problems = parse(text, shown="x.toml")
        assert (spec is None) == bool(problems)
        last = text.replace("\r\n", "\n").count("\n") + 1
        assert all(problem.line is None or 1 <= problem.line <= last for problem in problems)
        assert all(line.isprintable() for problem in problems for line in str(problem).split("\n"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_spec_or_problems(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "package.toml"
        path.write_bytes(data)
        with suppress(SpecError):
            load_package(path, shown="package.toml")
        assert isinstance(name_in(path), str)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["TOKEN", "index", '"a b"', "x.y"]),
    st.sampled_from(['"', "'", '"""', "'''", "", "[", "{", '["', "{a = ", '["a", "']),
    st.sampled_from(["", "\n", "\nOTHER = 1\n", "]", "}", " #", ' "', "\n\n]"]),
)
def test_a_line_that_is_not_toml_shows_no_value(key: str, opened: str, after: str) -> None:
    text = f"[environment.variables]\n{key} = {opened}hunter2{after}"
    for parse in (parse_package, parse_workspace):
        assert "hunter2" not in "".join(map(str, parse(text, shown="x.toml")[1]))


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{b=" * 100_000,
        "[" * 100_000,
        "[" + "a." * 10_000 + "a]\n",
        "a." * 10_000 + "a = 1\n",
        "".join(f"k{number} = 1\n" for number in range(50_000)),
        "".join(f"[t{number}]\n" for number in range(50_000)),
        "[[models]]\n" * 50_000,
        "[package]\ntags = [" + '"a",' * 100_000 + "]\n",
        "[package]\nname = '" + "a-" * 200_000 + "'\n",
        "[entry]\nscript = '" + "./" * 200_000 + "a.py'\n",
        "[entry]\nscript = '" + "../" * 200_000 + "a.py'\n",
        "[environment.variables]\n" + "".join(f"v{number} = 1\n" for number in range(30_000)),
        '"' + "\\\\" * 200_000,
        "'''" + "'" * 100_000,
        '"""' + '\\"' * 200_000,
        "a = " + "9" * 1_000_000,
        "#" * 1_000_000 + "\n'",
        "x = " + "'a' " * 100_000,
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
@pytest.mark.long
def test_a_flood_is_read_in_bounded_time_and_told_in_few_lines(text: str) -> None:
    """Up to a megabyte: the bound is far above what each takes (seconds), far below what quadratic work would."""
    begun = time.process_time()
    for parse in (parse_package, parse_workspace):
        _, problems = parse(text, shown="x.toml")
        assert 1 <= len(problems) <= MOST + 1
        assert sum(len(str(problem)) for problem in problems) < 100_000
    assert time.process_time() - begun < 60
