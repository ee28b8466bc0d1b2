"""What `@rawhttp` scripts get: werkzeug's classes, with Flask's attributes, loaded only where they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mlpkg.runtime.requirements import RAWHTTP, REQUIREMENTS

from .serving import Launch, Running, serving, wait_for_exit

ATTRIBUTES = """
import re
from azureml.contrib.services.aml_request import rawhttp

def init(): pass

def shown(request, name):
    try:
        value = getattr(request, name)
    except Exception as error:
        return "raises " + type(error).__name__
    if callable(value) and not isinstance(value, type):
        return "a method"
    return type(value).__name__ + " " + re.sub(r" at 0x[0-9a-f]+", "", repr(value))

@rawhttp
def run(request):
    names = {name for name in dir(request) if not name.startswith("_")}
    return {name: shown(request, name) for name in sorted(names)}
"""

REQUESTS = {
    "get": (
        "GET",
        "/score?a=1&a=2&b=%C3%A9",
        None,
        (
            ("Authorization", "Basic dXNlcjpwYXNz"),
            ("Accept", "text/html;q=0.5, application/json"),
            ("Accept-Charset", "utf-8, latin-1;q=0.1"),
            ("Accept-Encoding", "gzip, br;q=0.2"),
            ("Accept-Language", "de, en;q=0.7"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"),
            ("Origin", "http://a.example"),
            ("Referer", "http://r.example/x"),
            ("Cookie", "k=v; l=w"),
            ("If-None-Match", '"x", W/"y"'),
            ("If-Match", "*"),
            ("If-Modified-Since", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("If-Unmodified-Since", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("If-Range", '"x"'),
            ("Range", "bytes=0-9"),
            ("Cache-Control", "no-cache, max-age=3"),
            ("Pragma", "no-cache"),
            ("Max-Forwards", "5"),
            ("Date", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("X-Forwarded-For", "10.0.0.1, 10.0.0.2"),
            ("X-Requested-With", "XMLHttpRequest"),
        ),
    ),
    "json": (
        "POST",
        "/score",
        b'{"x": [1]}',
        (
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Encoding", "identity"),
            ("Content-MD5", "abc"),
            ("Authorization", "Bearer abc"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-a, x-b"),
        ),
    ),
    "bad json": ("POST", "/score", b"{", (("Content-Type", "application/json"),)),
    "text": ("POST", "/score", b"x", (("Content-Type", "text/plain"),)),
    "form": (
        "POST",
        "/score?q=1",
        b"a=1&b=2&a=3&c=",
        (("Content-Type", "application/x-www-form-urlencoded"),),
    ),
    "multipart": (
        "POST",
        "/score",
        b'--B\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nline\r\n--B--\r\n',
        (("Content-Type", "multipart/form-data; boundary=B"),),
    ),
}

DIFFERENT = {"environ", "input_stream", "json_module", "server", "stream", "url_rule"}
"""Attributes that docs/scoring-contract.md lists as different (`flask-request`)."""

PLAIN = "import sys\ndef init(): pass\ndef run(data): return sorted(n for n in sys.modules if n.startswith('werk'))\n"


@pytest.fixture(scope="module")
def pair(
    runtime_root: Path, oracle_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, Running]]:
    """Azure's server and ours with the script that tells its request's attributes."""
    folder = tmp_path_factory.mktemp("attributes")
    (folder / "score.py").write_text(ATTRIBUTES)
    launch = Launch(oracle_python, runtime_root, folder, {"AZUREML_MODEL_DIR": str(folder)})
    with ExitStack() as stack:
        azure = stack.enter_context(serving(launch, "azure", "score.py"))
        yield azure, stack.enter_context(serving(launch, "ours", "score.py"))


@pytest.mark.parametrize("name", REQUESTS)
def test_every_attribute_of_flasks_request(name: str, pair: tuple[Running, Running]) -> None:
    method, target, body, headers = REQUESTS[name]
    azure, ours = (json.loads(server.ask(method, target, body, headers).body) for server in pair)
    assert len(azure) > 80
    wrong = {key: (value, ours.get(key)) for key, value in azure.items() if ours.get(key) != value}
    assert {key: value for key, value in wrong.items() if key not in DIFFERENT} == {}
    assert set(wrong) == DIFFERENT
    assert set(ours) == set(azure)


def test_differences_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scoring-contract.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| `flask-request` |"))
    assert [name for name in DIFFERENT if f"`{name}`" not in row] == []


HEADERS = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init(): pass

@rawhttp
def run(request):
    pairs = [[name, value] for name, value in request.headers if name != "Accept-Encoding"]
    seen = {
        "pairs": sorted(pairs), "user": request.authorization.username, "agent": request.user_agent.string,
        "best": request.accept_mimetypes.best_match(["text/html", "application/json"]), "origin": request.origin,
        "encoding": request.content_encoding, "list": request.headers.getlist("X-Many"),
        "since": request.if_modified_since.isoformat(), "range": request.range.ranges,
    }
    response = AMLResponse(seen, 200, {"X-Many": "a, b"}, json_str=True)
    response.set_cookie("k", "v w", secure=True, httponly=True, samesite="Lax", path="/score")
    response.delete_cookie("old")
    response.cache_control.no_store = True
    response.vary.add("Accept")
    response.last_modified = request.if_modified_since
    return response
"""


def test_headers_are_iterated_and_parsed_as_in_flask(
    runtime_root: Path, oracle_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(HEADERS)
    launch = Launch(oracle_python, runtime_root, tmp_path, {"AZUREML_MODEL_DIR": str(tmp_path)})
    method, target, _, headers = REQUESTS["get"]
    replies = []
    for kind in ("azure", "ours"):
        with serving(launch, kind, "score.py") as server:
            replies.append(server.ask(method, target, None, headers))
    azure, ours = replies
    assert azure.status == ours.status == 200, ours
    assert json.loads(azure.body) == json.loads(ours.body)
    assert ["Origin", "http://a.example"] in json.loads(ours.body)["pairs"]
    for name in ("set-cookie", "cache-control", "vary", "last-modified", "content-type", "x-many"):
        assert azure.headers[name] == ours.headers[name]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with what every image has, and without werkzeug."""
    from uv import find_uv_bin

    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([find_uv_bin(), "venv", "-q", "-p", sys.executable, str(folder)], check=True, timeout=60)
    python = folder / "bin" / "python"
    install = [find_uv_bin(), "pip", "install", "-q", "-p", str(python), *REQUIREMENTS]
    subprocess.run(install, check=True, timeout=120)
    return python


def test_a_plain_script_neither_loads_nor_needs_werkzeug(
    launch: Launch, bare_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(PLAIN)
    with serving(launch, "ours", "score.py") as server:  # it is installed here
        assert server.ask(body=b"x").body == b"[]"
    with serving(replace(launch, python=bare_python), "ours", "score.py") as server:
        assert server.ask(body=b"x").body == b"[]"


@pytest.mark.parametrize(
    "imports",
    [
        "from azureml.contrib.services.aml_request import rawhttp",
        "from azureml.contrib.services.aml_response import AMLResponse",
        "from azureml.contrib.services import rawhttp",
        "from azureml_inference_server_http.api.aml_request import AMLRequest",
    ],
)
def test_a_script_that_needs_werkzeug_is_told_what_to_install(
    imports: str, launch: Launch, bare_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(f"{imports}\ndef init(): pass\ndef run(data): return data\n")
    server = replace(launch, python=bare_python).start("ours", "score.py")
    assert wait_for_exit(server) == 3
    assert f"pip install '{RAWHTTP[0]}'" in server.text
    assert "mlpkg/runtime" not in server.text


def test_the_log_says_why_a_body_is_not_taken_as_json(launch: Launch, tmp_path: Path) -> None:
    """The contract answers 500 without a reason, so the log has to give it."""
    (tmp_path / "score.py").write_text(
        "from azureml.contrib.services.aml_request import rawhttp\n"
        "def init(): pass\n"
        "@rawhttp\n"
        "def run(request): return request.get_json()\n"
    )
    with serving(launch, "ours", "score.py") as server:
        assert server.ask(body=b"{}").status == 500
        assert "Content-Type was not 'application/json'" in server.text
        assert server.ask(body=b"{", headers=[("Content-Type", "application/json")]).status == 500
        assert "Failed to decode JSON object" in server.text
