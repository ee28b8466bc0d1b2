"""Requests that both servers are asked, and the differences that are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

JSON: Final = ("Content-Type", "application/json")
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One request to one script; `environment` starts the servers with more variables."""

    script: str
    name: str
    method: str = "POST"
    target: str = "/score"
    body: bytes | None = None
    headers: Headers = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.script}:{self.name}"


def post(
    script: str, name: str, body: str | bytes, *headers: tuple[str, str], target: str = "/score"
) -> Case:
    data = body if isinstance(body, bytes) else body.encode()
    return Case(script, name, "POST", target, data, headers)


def get(script: str, name: str, target: str, *headers: tuple[str, str]) -> Case:
    return Case(script, name, "GET", target, None, headers)


INPUT: Final = [
    post("echo", "json", '{"data": [1, 2]}', JSON),
    post("echo", "text", "plain", ("Content-Type", "text/plain")),
    post("echo", "no type", "x"),
    post("echo", "empty", "", JSON),
    Case("echo", "no body"),
    post("echo", "unicode", "hé中😀", JSON),
    post("echo", "invalid utf-8", b"\xff\xfe", JSON),
    post("echo", "truncated utf-8", b"abc\xe4\xb8", JSON),
    post("echo", "latin-1 declared", "é".encode("latin-1"), ("Content-Type", "text/plain; charset=latin-1")),
    post("echo", "bom", b"\xef\xbb\xbf{}", JSON),
    post("echo", "nul", b"a\x00b", JSON),
    post("echo", "form", "a=1&b=2", FORM),
    post(
        "echo",
        "form with charset",
        "a=1",
        ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
    ),
    post("echo", "form, upper case", "a=1", ("Content-Type", "APPLICATION/X-WWW-FORM-URLENCODED")),
    post(
        "echo",
        "multipart",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
        ("Content-Type", "multipart/form-data; boundary=b"),
    ),
    post("echo", "multipart without boundary", "x", ("Content-Type", "multipart/form-data")),
    post("echo", "octets", b"\x01\x02", ("Content-Type", "application/octet-stream")),
    post("echo", "broken type", "x", ("Content-Type", ";;;")),
    post("echo", "large", "x" * 1_000_000, JSON),
    post("echo", "query beside a body", "body", JSON, target="/score?a=1"),
    get("echo", "get", "/score"),
    get("echo", "get values", "/score?a=1&b=%5B1%2C2%5D&c=a&d=null&e=true"),
    get("echo", "get repeats", "/score?foo=bar1&foo=bar2&x=y"),
    get("echo", "get blank", "/score?a=&b"),
    get("echo", "get plus", "/score?a=1+2&b=%2B"),
    get("echo", "get unicode", "/score?a=%C3%A9"),
    get("echo", "get invalid percent", "/score?a=%FF%zz"),
    get("echo", "get semicolon", "/score?a=1;b=2"),
    get("echo", "get nan", "/score?a=NaN&b=1e999&c=-0"),
    get("echo", "get text in quotes", "/score?a=%22x%22"),
    Case("echo", "get with a body", "GET", "/score?a=1", b"ignored", (JSON,)),
    Case("echo", "head", "HEAD"),
    Case("echo", "options", "OPTIONS"),
    Case("echo", "put", "PUT", body=b"x"),
    Case("echo", "delete", "DELETE"),
    Case("echo", "patch", "PATCH", body=b"x"),
    Case("echo", "unknown method", "BREW", body=b""),
    post("parsed", "object", '{"a": {"b": [1, 2.5, null, true, "x"]}}', JSON),
    post("parsed", "bad json", "{", JSON),
    post("parsed", "nan", "[NaN, Infinity]", JSON),
    post("parsed", "empty", "", JSON),
    post("parsed", "large numbers", "[1e400, 123456789012345678901234567890, -0.0]", JSON),
    post("parsed", "escapes", '"\\ud83d\\ude00 \\u0000 \\n"', JSON),
    post("parsed", "lone surrogate", '"\\ud800"', JSON),
    post("parsed", "duplicate keys", '{"a": 1, "a": 2}', JSON),
]

_RESULTS = [
    "none",
    "true",
    "int",
    "big",
    "float",
    "nan",
    "inf",
    "text",
    "unicode",
    "surrogate",
    "empty",
    "list",
    "tuple",
    "set",
    "dict",
    "int_keys",
    "tuple_key",
    "bytes",
    "bytearray",
    "date",
    "decimal",
    "enum",
    "int_enum",
    "text_class",
    "np_float64",
    "np_float32",
    "np_int64",
    "np_bool",
    "ndarray",
    "list_of_np",
    "list_of_np_int",
    "frame",
    "series",
    "frame_json",
    "json_text",
    "generator",
    "object",
    "function",
    "exception",
    "cycle",
    "deep",
    "long",
    "many",
    "status_tuple",
    "complex",
    "class",
]
_FAULTS = [
    "value",
    "key",
    "zero",
    "recursion",
    "memory",
    "import",
    "assert",
    "stop",
    "os",
    "timeout",
    "exit",
    "interrupt",
    "odd",
    "no_text",
    "connection",
    "fine",
]
OUTPUT: Final = [post("results", name, name, JSON) for name in _RESULTS] + [
    post("faults", name, name, JSON) for name in _FAULTS
]

_LONG = "i" * 101
IDS: Final = [
    post("echo", "x-request-id", "1", ("x-request-id", "abc")),
    post("echo", "x-ms-request-id", "1", ("x-ms-request-id", "legacy")),
    post("echo", "x-ms-client-request-id", "1", ("x-ms-client-request-id", "client")),
    post(
        "echo",
        "all ids",
        "1",
        ("x-request-id", "a"),
        ("x-ms-request-id", "b"),
        ("x-ms-client-request-id", "c"),
    ),
    post("echo", "request and client id", "1", ("x-request-id", "a"), ("x-ms-client-request-id", "c")),
    post("echo", "empty id", "1", ("x-request-id", "")),
    post("echo", "empty client id", "1", ("x-ms-client-request-id", "")),
    post("echo", "100 characters", "1", ("x-request-id", "i" * 100)),
    post("echo", "101 characters", "1", ("x-request-id", _LONG)),
    post("echo", "long legacy id", "1", ("x-ms-request-id", _LONG)),
    post("echo", "long client id", "1", ("x-ms-client-request-id", _LONG)),
    post(
        "echo",
        "long client id, good legacy",
        "1",
        ("x-ms-client-request-id", _LONG),
        ("x-ms-request-id", "ok"),
    ),
    post("echo", "id with spaces", "1", ("x-request-id", "a b  c")),
    post("echo", "id in latin-1", "1", ("x-request-id", "é")),
    post("echo", "id repeated", "1", ("x-request-id", "a"), ("x-request-id", "b")),
    post("echo", "trace id", "1", ("TraceId", "t")),
    post("echo", "trace id empty", "1", ("TraceId", "")),
    post("faults", "id on failure", "value", ("x-request-id", "abc"), ("TraceId", "t")),
    get("echo", "id on health", "/", ("x-request-id", "abc")),
    get("echo", "long id on health", "/", ("x-request-id", _LONG)),
    get("echo", "long id on swagger", "/swagger.json", ("x-ms-request-id", _LONG)),
    get("echo", "id on 404", "/nope", ("x-request-id", "abc")),
]

ROUTES: Final = [
    get("echo", "health", "/"),
    get("echo", "health with a query", "/?a=1"),
    Case("echo", "health head", "HEAD", "/"),
    Case("echo", "health options", "OPTIONS", "/"),
    post("echo", "health post", "x", target="/"),
    get("echo", "not found", "/nope"),
    post("echo", "not found post", "x", target="/nope"),
    get("echo", "slash at the end", "/score/"),
    get("echo", "double slash", "//score"),
    get("echo", "upper case", "/SCORE"),
    get("echo", "percent in path", "/%73core"),
    get("echo", "dots", "/x/../score"),
    get("echo", "swagger", "/swagger.json"),
    get("echo", "swagger 2", "/swagger.json?version=2"),
    get("echo", "swagger 2.0", "/swagger.json?version=2.0"),
    get("echo", "swagger 3", "/swagger.json?version=3"),
    get("echo", "swagger 3.0", "/swagger.json?version=3.0"),
    get("echo", "swagger 3.1", "/swagger.json?version=3.1"),
    get("echo", "swagger 4", "/swagger.json?version=4"),
    get("echo", "swagger blank", "/swagger.json?version="),
    get("echo", "swagger twice", "/swagger.json?version=3&version=2"),
    Case("echo", "swagger post", "POST", "/swagger.json", b""),
    Case("echo", "swagger head", "HEAD", "/swagger.json"),
    Case("echo", "swagger options", "OPTIONS", "/swagger.json"),
    get("schema", "swagger", "/swagger.json"),
    get("schema", "swagger 3", "/swagger.json?version=3"),
    get("schema", "swagger 3.1", "/swagger.json?version=3.1"),
    get("nested", "swagger", "/swagger.json"),
    get("nested", "swagger 3", "/swagger.json?version=3"),
]

_GOOD = '{"data": [[1, 2], [3, 4]], "frame": [{"a": 1, "b": "x"}], "factor": 3.5}'
SCHEMAS: Final = [
    post("schema", "good", _GOOD, JSON),
    post("schema", "default", '{"data": [[1, 2]], "frame": [{"a": 1, "b": "x"}]}', JSON),
    post("schema", "extra keys", _GOOD[:-1] + ', "more": 1}', JSON),
    post("schema", "missing", '{"data": [[1, 2]]}', JSON),
    post("schema", "wrong type", '{"data": "x", "frame": [{"a": 1, "b": "x"}]}', JSON),
    post("schema", "wrong shape", '{"data": [[1, 2, 3]], "frame": [{"a": 1, "b": "x"}]}', JSON),
    post("schema", "wrong columns", '{"data": [[1, 2]], "frame": [{"z": 1}]}', JSON),
    post("schema", "list", "[1]", JSON),
    post("schema", "null", "null", JSON),
    post("schema", "empty", "", JSON),
    post("schema", "bad json", "{", JSON),
    post("schema", "invalid utf-8", b'{"data": "\xff"}', JSON),
    post("schema", "utf-16", '{"data": 1}'.encode("utf-16"), JSON),
    post("schema", "bom", b'\xef\xbb\xbf{"data": 1}', JSON),
    post("schema", "text/plain", _GOOD, ("Content-Type", "text/plain")),
    post("schema", "no type", _GOOD),
    post("schema", "json with charset", _GOOD, ("Content-Type", "application/json; charset=utf-8")),
    post("schema", "json suffix", _GOOD, ("Content-Type", "application/vnd.x+json")),
    post("schema", "upper case type", _GOOD, ("Content-Type", "Application/JSON")),
    post("schema", "form", "data=1", FORM),
    get("schema", "get", "/score?data=%5B%5B1,2%5D%5D&frame=%5B%7B%22a%22:1,%22b%22:%22x%22%7D%5D&factor=2"),
    get("schema", "get missing", "/score?data=1"),
    Case("schema", "options", "OPTIONS"),
    post("nested", "good", '{"Inputs": {"n": 1, "mixed": [1, "a"]}, "GlobalParameters": 2.0}', JSON),
    post("nested", "wrong", '{"Inputs": 5}', JSON),
]

_MULTI = (
    b'--B\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"line 1\r\nline 2\r\n\r\n--B--\r\n"
)
_RESPONSES = [
    "text",
    "bytes",
    "json_str",
    "json_text",
    "none",
    "created",
    "no_content",
    "teapot",
    "error",
    "unavailable",
    "not_found",
    "failed",
    "repeat",
    "odd_status",
    "stream",
    "list",
    "empty",
    "unicode",
    "plain",
    "content_type",
    "lower_type",
    "own_ids",
    "big",
    "date",
    "not_text",
    "bad_json",
    "redirect",
    "newline",
    "int_header",
    "dict_body",
    "bare_bytes",
    "modified",
    "raise",
    "bad_key",
    "form_key",
]
RAW: Final = [
    get(
        "raw",
        "get",
        "/score?a=1&a=2&b=x%20y",
        ("X-Custom", "c"),
        ("Cookie", "k=v; l=w"),
        ("Referer", "http://r/"),
    ),
    post("raw", "post json", '{"x": [1]}', JSON, ("X-Custom", "c")),
    post("raw", "post form", "a=1&b=2&a=3&c=", FORM, target="/score?q=1"),
    post("raw", "post multipart", _MULTI, ("Content-Type", "multipart/form-data; boundary=B")),
    post("raw", "post octets", b"\x00\x01\xff", ("Content-Type", "application/octet-stream")),
    post("raw", "post text", "é", ("Content-Type", 'text/plain; charset="utf-8"; x=y')),
    post("raw", "post empty", ""),
    post("raw", "forwarded", "x", ("X-Forwarded-For", "10.0.0.1, 10.0.0.2"), ("X-Forwarded-Proto", "https")),
    post("raw", "repeated fields", "x", ("X-Custom", "a"), ("X-Custom", "b"), ("Accept", "x/y")),
    Case("raw", "options", "OPTIONS", "/score?case=method"),
    Case("raw", "head", "HEAD", "/score?case=method"),
    Case("raw", "put", "PUT", "/score?case=method", b""),
    post("raw", "json", '{"a": 1}', JSON, target="/score?case=json"),
    post("raw", "json of another type", '{"a": 1}', target="/score?case=json"),
    post("raw", "bad json", "{", JSON, target="/score?case=get_json"),
    post("raw", "stream of the body", "abc", target="/score?case=stream"),
    *[post("raw", f"answers {name}", "", target=f"/score?case={name}") for name in _RESPONSES],
    *[
        post("flask", name, '{"x": 1}', JSON, target=f"/score?case={name}")
        for name in ("response", "jsonify", "error", "cookie", "abort", "request")
    ],
]

REST: Final = [
    post("headers", "fields", "x", ("X-Custom", "c"), ("x-lower-case", "l"), JSON),
    post("headers", "repeated", "x", ("X-Many", "a"), ("X-Many", "b")),
    post("headers", "underscore", "x", ("X_Under", "a")),
    get("headers", "get", "/score?a=1", ("X-Custom", "c")),
    post("headers-first", "post", "x"),
    post("state", "state", "x"),
    post("coroutine", "post", "x"),
    post("driver", "post", "x"),
    post("class-run", "post", "x"),
]

_ORIGINS = ("http://a.example,http://b.example", "*", "http://a.example", r"https?://.*\.example")
_CORS = [
    ("no origin", "POST", ()),
    ("origin", "POST", (("Origin", "http://a.example"),)),
    ("other origin", "POST", (("Origin", "http://evil.test"),)),
    ("upper case", "POST", (("Origin", "HTTP://A.example"),)),
    (
        "preflight",
        "OPTIONS",
        (
            ("Origin", "http://a.example"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-b, content-type"),
        ),
    ),
    ("preflight put", "OPTIONS", (("Origin", "http://a.example"), ("Access-Control-Request-Method", "PUT"))),
    ("failure", "POST", (("Origin", "http://a.example"), ("x-request-id", _LONG))),
]
CORS: Final = [
    Case(
        "echo",
        f"cors {origins} {name}",
        method,
        body=b"1" if method == "POST" else None,
        headers=headers,
        environment={"AML_CORS_ORIGINS": origins},
    )
    for origins in _ORIGINS
    for name, method, headers in _CORS
] + [
    Case(
        "echo", "cors health", "GET", "/", None, (("Origin", "http://a.example"),), {"AML_CORS_ORIGINS": "*"}
    ),
    Case(
        "echo",
        "cors not found",
        "GET",
        "/nope",
        None,
        (("Origin", "http://a.example"),),
        {"AML_CORS_ORIGINS": "*"},
    ),
]

_SERVICE = {"SERVICE_NAME": "My service", "SERVICE_VERSION": "7", "SERVICE_PATH_PREFIX": "/api/v1/"}
SETTINGS: Final = [
    Case("echo", "service swagger", "GET", "/swagger.json", environment=_SERVICE),
    Case("echo", "service swagger 3", "GET", "/swagger.json?version=3", environment=_SERVICE),
    Case(
        "echo", "no version header", body=b"1", environment={"SERVER_VERSION_LOG_RESPONSE_ENABLED": "false"}
    ),
    Case("faults", "scoring timeout", body=b"sleep", environment={"SCORING_TIMEOUT_MS": "300"}),
]

CASES: Final = tuple(INPUT + OUTPUT + IDS + ROUTES + SCHEMAS + RAW + REST + CORS + SETTINGS)

DIFFERENCES: Final[Mapping[str, str]] = {
    "echo:unknown method": "unknown-method",
    "faults:exit": "base-exceptions",
    "faults:interrupt": "base-exceptions",
    "faults:odd": "base-exceptions",
    "raw:answers not_text": "response-body",
}
"""Case id -> anchor in docs/scoring-contract.md that says how and why ours differs."""
