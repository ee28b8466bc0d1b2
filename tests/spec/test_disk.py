"""The files that a spec names, on a real disk."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import tomli

from mlpkg.spec.disk import check_files, check_settings
from mlpkg.spec.listing import list_tree
from mlpkg.spec.model import SmokeTable
from mlpkg.spec.parse import parse_package, parse_workspace
from mlpkg.spec.script import Calling, script_findings

SCRIPT = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"
SPEC = """\
[package]
name = "a"

[[models]]
name = "m"
path = "model"

[entry]
script = "score.py"

[environment]
requirements = "requirements.txt"
"""
SMOKE = SmokeTable(request="sample.json")  # no file may ask for it yet
FILES = {"score.py": SCRIPT, "requirements.txt": "", "sample.json": "{}", "model/weights": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text(SCRIPT)
    folder = tmp_path / "a"
    fill(folder, FILES)
    return folder


def fill(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def problems(folder: Path, text: str = SPEC, *, made: Callable[[Path], bool] = lambda _: False) -> list[str]:
    spec, wrong = parse_package(text, shown="p/a/package.toml")
    assert spec is not None, wrong
    (folder / "package.toml").write_text(text)
    spec = replace(spec, smoke=SMOKE)
    found = check_files(spec, folder, shown="p/a/package.toml", made_by_tasks=made)
    return [str(problem) for problem in found]


def test_all_is_well(folder: Path) -> None:
    assert problems(folder) == []


def test_all_is_missing_at_once(tmp_path: Path) -> None:
    hint = "(paths start at the folder of package.toml)"
    start = f"does not exist, and no task makes it {hint}"
    assert problems(tmp_path) == [
        f'p/a/package.toml:6: models[0].path: "model" {start}',
        f'p/a/package.toml:9: entry.script: "score.py" {start}',
        f'p/a/package.toml:12: environment.requirements: "requirements.txt" {start}',
        f'p/a/package.toml: smoke.request: "sample.json" {start}',
    ]


def test_what_a_task_makes_may_be_absent(folder: Path) -> None:
    paths = [folder / name for name in ("model", "score.py", "requirements.txt", "sample.json")]
    (folder / "model" / "weights").unlink()
    for path in paths[1:]:
        path.unlink()
    asked: list[Path] = []

    def made(path: Path) -> bool:
        asked.append(path)
        return True

    assert problems(folder, made=made) == []
    assert asked == paths
    for path in paths:
        assert len(problems(folder, made=path.__ne__)) == 1


def test_an_empty_model_folder(folder: Path) -> None:
    (folder / "model" / "weights").unlink()
    (folder / "model" / "sub").mkdir()
    assert problems(folder) == ['p/a/package.toml:6: models[0].path: "model" is a folder without files']


@pytest.mark.parametrize("name", ["score.py", "requirements.txt", "sample.json", "model", "model/weights"])
def test_links_must_stay_inside(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_dir():
        (path / "weights").unlink()
        path.rmdir()
        path.symlink_to(folder.parent)
    else:
        path.unlink()
        path.symlink_to("../../outside" if "/" in name else "../outside")
    said = "is a link that leaves the folder" if "/" in name else "leads out of its folder through a link"
    assert [text for text in problems(folder) if f'"{name}" {said}' in text]


def test_links_inside_are_fine(folder: Path) -> None:
    (folder / "score.py").rename(folder / "real.py")
    (folder / "score.py").symlink_to("real.py")
    (folder / "model" / "again").symlink_to("weights")
    assert problems(folder) == []


def test_links_to_nothing_and_in_a_circle(folder: Path) -> None:
    (folder / "model" / "gone").symlink_to("nowhere")
    (folder / "score.py").unlink()
    (folder / "score.py").symlink_to("score.py")
    found = problems(folder)
    assert (
        found[0]
        == 'p/a/package.toml:6: models[0].path: "model/gone" is a link to "nowhere", which does not exist'
    )
    assert len(found) == 2
    assert "score.py" in found[1]


def test_special_files_cannot_ship(folder: Path) -> None:
    os.mkfifo(folder / "model" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "model" / "socket"))
        (folder / "sample.json").unlink()
        os.mkfifo(folder / "sample.json")
        found = problems(folder)
    assert [text.partition(": ")[2] for text in found] == [
        'models[0].path: "model/pipe" is neither a file nor a folder (a socket, pipe or device cannot ship)',
        'models[0].path: "model/socket" is neither a file nor a folder (a socket, pipe or device cannot ship)',
        'smoke.request: "sample.json" is not a file',
    ]


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    (folder / "requirements.txt").mkdir()
    assert problems(folder) == [
        'p/a/package.toml:12: environment.requirements: "requirements.txt" is not a file'
    ]


def test_source_directory(folder: Path) -> None:
    text = SPEC.replace('script = "score.py"', 'script = "score.py"\nsource_directory = "src"')
    assert "entry.source_directory" in problems(folder, text)[0]
    fill(folder, {"src/other.py": ""})
    assert '"src/score.py" does not exist' in problems(folder, text)[0]
    (folder / "src" / "score.py").symlink_to("../score.py")  # in the package's folder, but it would not ship
    assert '"src/score.py" leads out of its folder' in problems(folder, text)[0]
    (folder / "src" / "score.py").unlink()
    fill(folder, {"src/score.py": SCRIPT})
    assert problems(folder, text) == []
    fill(folder, {"file": ""})
    assert '"file" is not a folder' in problems(folder, text.replace('"src"', '"file"'))[0]


@pytest.mark.parametrize(
    ("script", "ignore", "expected"),
    [
        ("score.py", "[]", []),
        ("score.py", '["tests/", "*.ipynb", "# score.py"]', []),
        ("score.py", '["*.py", "!score.py"]', []),
        ("venv.py/a.py", "[]", []),
        ("venv/a.py", '["!venv/"]', []),
        ("venv/a.py", '["!/venv/"]', []),
        (".env.py", '["!/.env.py"]', []),
        (
            "score.py",
            """[
  "*.txt",
  "*.py",
]""",
            [':12: entry.ignore[1]: "*.py" hides the entry script "score.py"'],
        ),
        ("a/score.py", '["/a/"]', [':10: entry.ignore[0]: "/a/" hides the entry script "a/score.py"']),
        # a file below a folder that does not ship cannot be taken back
        ("a/b/score.py", '["b/", "!score.py"]', [':10: entry.ignore[0]: "b/" hides the entry script']),
        (
            "venv/a.py",
            "[]",
            [':9: entry.script: "venv/a.py" does not ship: "venv/" is ignored by default (add "!/venv/" to'],
        ),
        (".env.py", "[]", [':9: entry.script: ".env.py" does not ship: ".env.*" is ignored by default']),
        (
            "score.py",
            r'["!", "*.txt", "[z-a]", "a\\"]',
            [
                ':10: entry.ignore[0]: "!" is not a pattern',
                ':10: entry.ignore[2]: "[z-a]" is not a pattern',
                r':10: entry.ignore[3]: "a\" is not a pattern',
            ],
        ),
    ],
)
def test_patterns_that_hide_the_script(folder: Path, script: str, ignore: str, expected: list[str]) -> None:
    fill(folder, {f"src/{script}": SCRIPT})
    text = SPEC.replace('"score.py"', f'"{script}"\nignore = {ignore}\nsource_directory = "src"')
    found = problems(folder, text)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith("p/a/package.toml" + start)
    if not any("is not a pattern" in problem for problem in found):  # what the builder lists decides
        listed = list_tree(
            folder / "src", ignore=tomli.loads(text)["entry"]["ignore"], place="src", shown="", key=""
        )
        assert (script in {entry.path for entry in listed.entries}) == (not found)


MODEL = SPEC.replace('path = "model"', 'path = "model"\nignore = {}')


def test_patterns_of_a_model(folder: Path) -> None:
    fill(folder, {"model/notes.txt": "", "model/.env": "TOKEN=1"})
    assert problems(folder, MODEL.format('["*.txt", "!.env"]')) == []
    text = MODEL.format('["*.txt", "[z-a]"]')
    assert problems(folder, text) == ['p/a/package.toml:7: models[0].ignore[1]: "[z-a]" is not a pattern']
    (found,) = problems(folder, MODEL.format('["*"]'))
    assert found.endswith('"model" is a folder without files')


def test_patterns_for_a_model_of_one_file_have_no_effect(folder: Path) -> None:
    text = MODEL.format('["*.txt"]').replace('"model"', '"model/weights"')
    (found,) = problems(folder, text)
    assert found.startswith(
        'p/a/package.toml:7: models[0].ignore: has no effect: "model/weights" is a file (a file'
    )


def test_a_model_that_has_nothing_but_secrets(folder: Path) -> None:
    (folder / "model" / "weights").rename(folder / "model" / "server.key")
    (found,) = problems(folder)
    assert "is a folder without files, but for what does not ship: model/server.key" in found


def test_what_does_not_ship_is_not_examined(folder: Path) -> None:
    """A socket in .git (its monitor's) or a broken link in node_modules is nobody's mistake."""
    (folder / "model" / ".git").mkdir()
    os.mkfifo(folder / "model" / ".git" / "fsmonitor")
    (folder / "model" / "node_modules").mkdir()
    (folder / "model" / "node_modules" / "gone").symlink_to("/nowhere")
    assert problems(folder) == []


def test_links_in_a_source_folder_are_seen_before_any_work(folder: Path) -> None:
    fill(folder, {"src/score.py": SCRIPT, "src/data/a.csv": ""})
    (folder / "src" / "out").symlink_to("../requirements.txt")
    (folder / "src" / "latest").symlink_to("data")
    text = SPEC.replace(
        'script = "score.py"', 'script = "score.py"\nsource_directory = "src"\nignore = ["data/"]'
    )
    assert [found.partition(": ")[2].partition(" (")[0] for found in problems(folder, text)] == [
        'entry.source_directory: "src/latest" is a link to "data", which does not ship',
        'entry.source_directory: "src/out" is a link that leaves the folder, to "../requirements.txt"',
    ]


def test_a_problem_of_the_script_stands_in_the_script(folder: Path) -> None:
    fill(folder, {"score.py": "def init():\n    pass\ndef run(data:\n    pass\n"})
    (found,) = problems(folder)
    assert found.startswith("p/a/score.py:3: entry.script: is not Python: ")


def test_a_command_of_ones_own_calls_no_run(folder: Path) -> None:
    fill(folder, {"score.py": "print(1)\n"})
    assert len(problems(folder)) == 2
    text = SPEC + '\n[server]\nkind = "custom"\ncommand = ["python3", "score.py"]\n'
    assert problems(folder, text) == []


def test_a_lenient_server_awaits(folder: Path) -> None:
    fill(folder, {"score.py": "def init(): ...\nasync def run(data): ...\n"})
    assert "p/a/score.py:2" in problems(folder)[0]
    assert problems(folder, SPEC + '\n[environment.variables]\nMLPKG_LENIENT = "true"\n') == []


def findings(source: str, calling: Calling = "plain", python: tuple[int, int] = (3, 11)) -> list[str]:
    found = script_findings(source.encode(), python=python, calling=calling)
    return [f"{finding.line}: {finding.message}" for finding in found]


@pytest.mark.parametrize(
    "source",
    [
        "def run(data): ...",
        "def run(data, request_headers): ...",
        "def run(request_headers, data): ...",
        "def run(data, *, request_headers): ...",
        "def run(*, data): ...",
        "def run(data=None): ...",
        "def run(data, more=1): ...",
        "from model import run",
        "import model.run as run",
        "from model import *",
        "run = lambda data: data",
        "run: object = print",
        "a, (run, b) = x",
        "class run:\n    def __new__(cls, data): ...",
        "try:\n    from model import run\nexcept ImportError:\n    def run(): ...",
        "def run(): ...\ndef run(data): ...",
        "@rawhttp\ndef run(request): ...",
        "@input_schema('a', x)\n@schemas.input_schema('b', y)\ndef run(a, b): ...",
        "@wraps(other)\ndef run(*args): ...",
        "@jit.compile\nasync def run(data): ...",
        "with x as run: pass",
        "print('\\d')\ndef run(data): ...",
    ],
)
def test_scripts_that_may_serve(source: str) -> None:
    assert findings(f"def init(): ...\n{source}\n") == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "None: does not define `run`"),
        ("def main():\n    def run(data): ...", "None: does not define `run`"),
        ("class A:\n    def run(self, data): ...", "None: does not define `run`"),
        ("x = [run for run in y]", "None: does not define `run`"),
        ("def run(): ...", "2: `run` takes no data"),
        ("def run(request_headers): ...", "2: `run` takes no data"),
        ("def run(*args): ...", "2: `run` has `*args`, `**kwargs` or positional-only arguments"),
        ("def run(data, **more): ...", "2: `run` has `*args`, `**kwargs` or positional-only arguments"),
        ("def run(data, /): ...", "2: `run` has `*args`, `**kwargs` or positional-only arguments"),
        ("def run(a, b): ...", "2: `run` has 2 required arguments"),
        ("def run(a, *, b): ...", "2: `run` has 2 required arguments"),
        ("async def run(data): ...", "2: `run` is `async def`: no answer would come of it"),
        ("@rawhttp\nasync def run(data): ...", "3: `run` is `async def`: no answer would come of it"),
        ("@input_schema('a', x)\ndef run(): ...", "3: `run` takes no data"),
        ("if x:\n    def run(): ...\nelse:\n    def run(a, b): ...", "5: `run` has 2 required arguments"),
    ],
)
def test_scripts_that_cannot_serve(source: str, expected: str) -> None:
    assert findings(f"def init(): ...\n{source}\n") == [expected]


def test_init() -> None:
    run = "def run(data): ...\n"
    assert findings(run) == ["None: does not define `init`"]
    assert findings(run + "def init(model): ...\n") == ["2: `init` has required arguments"]
    assert findings(run + "def init(*, model): ...\n") == ["2: `init` has required arguments"]
    assert findings(run + "async def init(): ...\n") == ["2: `init` is `async def`: nothing awaits it"]
    assert findings(run + "def init(model=None, *rest): ...\n") == []
    assert findings(run + "@retry\ndef init(model): ...\n") == []
    assert len(findings("")) == 2


def test_what_is_no_python() -> None:
    assert findings("def init(:\n", "free")[0].startswith("1: is not Python")
    assert findings("a = '\0'\n")[0].partition(": ")[2].startswith("is not Python")
    assert findings("(" * 5000)[0].partition(": ")[2].startswith("is not Python")


def test_newer_syntax_is_left_to_the_newer_python() -> None:
    source = f"def init(): ...\ndef run(data): ...\n{'type X = int'}\n"
    assert findings(source, python=(3, 11))[0].startswith("3: is not Python")
    assert findings(source, python=(3, 99)) == []
    assert findings("def init(: ...\n", python=(3, 99))[0].startswith("1: is not Python")


def test_other_encodings_are_read_as_python_reads_them() -> None:
    source = "# coding: latin-1\n" + "x = 'é'\ndef init(): ...\ndef run(data): ...\n"
    assert script_findings(source.encode("latin-1"), python=(3, 11), calling="plain") == ()


def test_files_that_mlpkg_toml_names(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "ca.pem").write_text("x")
    text = (
        '[debian]\nkeyring = "folder"\n\n[python]\nca_file = "gone.pem"\n'
        'find_links = ["folder", "https://wheels.example/", "made", "gone"]\n'
    )
    (tmp_path / "mlpkg.toml").write_text(text)
    settings, _ = parse_workspace(text, shown="mlpkg.toml")
    assert settings is not None
    found = check_settings(settings, tmp_path, made_by_tasks=lambda path: path.name == "made")
    hint = "(paths start at the folder of mlpkg.toml)"
    assert [str(problem) for problem in found] == [
        f'mlpkg.toml:2: debian.keyring: "folder" is not a file {hint}',
        f'mlpkg.toml:5: python.ca_file: "gone.pem" does not exist {hint}',
        f'mlpkg.toml:6: python.find_links[3]: "gone" is no folder {hint}',
    ]
    fine = replace(settings, python=replace(settings.python, ca_file=str(tmp_path / "ca.pem"), find_links=()))
    fine = replace(fine, debian=replace(fine.debian, keyring=None))
    assert check_settings(fine, tmp_path, made_by_tasks=lambda _: False) == ()
    os.mkfifo(tmp_path / "pipe")
    waits = replace(fine, python=replace(fine.python, ca_file="pipe"))
    assert len(check_settings(waits, tmp_path, made_by_tasks=lambda _: False)) == 1
