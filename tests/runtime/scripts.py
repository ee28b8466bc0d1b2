"""Entry scripts that both servers run."""

from __future__ import annotations

from typing import Final

ECHO = """
def init(): pass
def run(data): return data
"""

PARSED = """
import json
def init(): pass
def run(data): return json.loads(data)
"""

RESULTS = """
import datetime, decimal, enum, json
import numpy as np
import pandas as pd
class Colour(enum.Enum):
    RED = 1
class Number(enum.IntEnum):
    ONE = 1
class Text(str):
    pass
def cycle():
    a = []
    a.append(a)
    return a
def deep(n):
    v = []
    for _ in range(n):
        v = [v]
    return v
def surrogate(): return "\\udc80"
RESULTS = {
    "none": lambda: None, "true": lambda: True, "int": lambda: 7, "big": lambda: 2**80, "float": lambda: 0.1,
    "nan": lambda: float("nan"), "inf": lambda: [float("inf"), -float("inf")], "text": lambda: "hello",
    "unicode": lambda: "h\\u00e9\\u4e2d\\U0001f600", "surrogate": surrogate, "empty": lambda: "", "list": lambda: [1, [2, "x"], {}],
    "tuple": lambda: (1, 2), "set": lambda: {1}, "dict": lambda: {"b": 1, "a": None}, "int_keys": lambda: {1: 2, None: 3, True: 4, 1.5: 5},
    "tuple_key": lambda: {(1, 2): 3}, "bytes": lambda: b"x", "bytearray": lambda: bytearray(b"x"), "date": lambda: datetime.date(2020, 1, 2),
    "decimal": lambda: decimal.Decimal("1.5"), "enum": lambda: Colour.RED, "int_enum": lambda: Number.ONE, "text_class": lambda: Text("t"),
    "np_float64": lambda: np.float64(1.5), "np_float32": lambda: np.float32(1.5), "np_int64": lambda: np.int64(3), "np_bool": lambda: np.bool_(True),
    "ndarray": lambda: np.arange(3), "list_of_np": lambda: [np.float64(1.5), np.float64("nan")], "list_of_np_int": lambda: list(np.arange(3)),
    "frame": lambda: pd.DataFrame({"a": [1]}), "series": lambda: pd.Series([1]), "frame_json": lambda: pd.DataFrame({"a": [1]}).to_json(orient="records"),
    "json_text": lambda: json.dumps({"a": 1}), "generator": lambda: (x for x in [1]), "object": object, "function": lambda: print,
    "exception": lambda: ValueError("x"), "cycle": cycle, "deep": lambda: deep(200), "long": lambda: "x" * 300_000,
    "many": lambda: list(range(20_000)), "status_tuple": lambda: ("body", 201), "complex": lambda: 1j, "class": lambda: int,
}
def init(): pass
def run(data): return RESULTS[data]()
"""

FAULTS = """
import time
class Odd(BaseException): pass
class NoText(Exception):
    def __str__(self): raise RuntimeError("no text")
def recurse(): return recurse()
def sleep(): time.sleep(60)
def timeout(): raise TimeoutError("of my own")
def throw(error):
    raise error
FAULTS = {
    "value": lambda: throw(ValueError("x")), "key": lambda: throw(KeyError("x")), "zero": lambda: 1 / 0,
    "recursion": recurse, "memory": lambda: throw(MemoryError()), "import": lambda: __import__("no_such_module"),
    "assert": lambda: throw(AssertionError()), "stop": lambda: throw(StopIteration()), "os": lambda: open("/no/such/file"),
    "timeout": timeout, "sleep": sleep, "exit": lambda: throw(SystemExit(4)), "interrupt": lambda: throw(KeyboardInterrupt()),
    "odd": lambda: throw(Odd()), "no_text": lambda: throw(NoText()), "connection": lambda: throw(ConnectionResetError()),
}
def init(): pass
def run(data):
    return FAULTS[data]() if data in FAULTS else "fine"
"""

HEADERS = """
def init(): pass
def run(data, request_headers): return dict(request_headers)
"""

HEADERS_FIRST = """
def init(): pass
def run(request_headers, payload="default"): return [payload, sorted(request_headers)[:2], type(request_headers).__name__]
"""

RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init(): pass

def asked(r): return {
    "method": r.method, "path": r.path, "full_path": r.full_path, "query": r.query_string.decode(), "args": r.args.to_dict(flat=False),
    "data": r.data.decode("latin-1"), "get_data": r.get_data().decode("latin-1"), "content_type": r.content_type,
    "mimetype": r.mimetype, "is_json": r.is_json, "content_length": r.content_length, "url": r.url, "base_url": r.base_url,
    "host": r.host, "host_url": r.host_url, "scheme": r.scheme, "is_secure": r.is_secure, "cookies": dict(r.cookies), "form": r.form.to_dict(flat=False),
    "values": r.values.to_dict(flat=False), "mimetype_params": dict(r.mimetype_params), "remote_addr": r.remote_addr,
    "custom": r.headers.get("X-Custom"), "missing": r.headers.get("X-Missing", "none"), "item": r.headers["host"], "in": "x-custom" in r.headers,
    "files": {k: [f.filename, f.read().decode("latin-1"), f.content_type, f.name] for k, f in r.files.items()},
    "text": r.get_data(as_text=True), "silent": r.get_json(silent=True), "forced": r.get_json(force=True, silent=True),
    "arg": r.args.get("a", type=int), "list": r.args.getlist("a"), "default": r.args.get("zz", "d"), "root": r.url_root, "referrer": r.referrer, "route": list(r.access_route),
    "headers": sorted((k, v) for k, v in r.headers.items() if k.lower() not in ("content-length",)),
}
def streamed():
    yield b"one,"
    yield "two"
def broken():
    yield b"one"
    raise ValueError("x")

def run(request):
    case = request.args.get("case", "asked")
    if case == "asked": return asked(request)
    if case == "json": return request.json
    if case == "get_json": return request.get_json()
    if case == "stream": return request.stream.read().decode()
    if case == "raise": raise ValueError("x")
    if case == "bad_key": return request.args["nope"]
    if case == "form_key": return request.form["nope"]
    if case == "method" : return AMLResponse(request.method, 200)
    return RESPONSES[case]()

RESPONSES = {
    "text": lambda: AMLResponse("text", 200), "bytes": lambda: AMLResponse(b"\\x00\\xff", 200, {"Content-Type": "application/octet-stream"}),
    "json_str": lambda: AMLResponse({"a": [1]}, 200, json_str=True), "json_text": lambda: AMLResponse("x", 201, {}, True), "none": lambda: AMLResponse(None, 200),
    "created": lambda: AMLResponse("made", 201, {"Location": "/there"}), "no_content": lambda: AMLResponse("", 204), "teapot": lambda: AMLResponse("t", 418),
    "error": lambda: AMLResponse("bad", 500), "unavailable": lambda: AMLResponse("later", 503, {"Retry-After": "7"}), "not_found": lambda: AMLResponse("gone", 404),
    "failed": lambda: AMLResponse("x", 200, {}, False, True), "repeat": lambda: AMLResponse("x", 200, {"X-Many": "a, b,c"}), "odd_status": lambda: AMLResponse("x", 299),
    "stream": lambda: AMLResponse(streamed(), 200), "list": lambda: AMLResponse(["a", "b"], 200), "empty": lambda: AMLResponse("", 200), "unicode": lambda: AMLResponse("\\u00e9\\u4e2d", 200),
    "plain": lambda: {"a": 1}, "content_type": lambda: AMLResponse("x", 200, {"Content-Type": "text/csv"}), "lower_type": lambda: AMLResponse("x", 200, {"content-type": "text/csv"}),
    "own_ids": lambda: AMLResponse("x", 200, {"x-ms-request-id": "mine", "x-request-id": "mine", "x-ms-client-request-id": "mine"}), "big": lambda: AMLResponse(b"z" * 200_000, 200),
    "date": lambda: AMLResponse("x", 200, {"Cache-Control": "no-store, max-age=0"}), "not_text": lambda: AMLResponse(5, 200), "bad_json": lambda: AMLResponse({1, 2}, 200, json_str=True),
    "redirect": lambda: AMLResponse("", 302, {"Location": "http://example.org/"}), "newline": lambda: AMLResponse("x", 200, {"X-Bad": "a\\nb"}), "int_header": lambda: AMLResponse("x", 200, {"X-Int": 5}),
    "dict_body": lambda: AMLResponse({"a": 1}, 200), "bare_bytes": lambda: AMLResponse(b"abc", 200), "modified": lambda: AMLResponse("x", 304),
}
"""

FLASK = """
from azureml.contrib.services.aml_request import rawhttp
import flask
def init(): pass
@rawhttp
def run(request):
    case = request.args.get("case")
    if case == "response": return flask.Response("made by flask", status=202, headers={"X-A": "b"}, mimetype="text/plain")
    if case == "jsonify": return flask.jsonify(a=1)
    if case == "error": return flask.Response("bad", status=502)
    if case == "cookie":
        response = flask.make_response("c")
        response.set_cookie("k", "v")
        return response
    if case == "abort": flask.abort(418)
    return {"same": flask.request.path, "is": isinstance(request, flask.Request), "json": request.get_json(silent=True)}
"""

SCHEMA = """
import numpy as np
import pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
def init(): pass
@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("frame", PandasParameterType(pd.DataFrame({"a": [1], "b": ["x"]})))
@input_schema("factor", StandardPythonParameterType(1.5))
@output_schema(NumpyParameterType(np.array([1.0])))
def run(data, frame, factor=2.0):
    return [data.tolist(), str(data.dtype), frame.to_dict(orient="records"), factor]
"""

NESTED = """
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
def init(): pass
@input_schema("Inputs", StandardPythonParameterType({"n": StandardPythonParameterType(1), "mixed": StandardPythonParameterType([1, "a"])}))
@input_schema("GlobalParameters", StandardPythonParameterType(1.0))
@output_schema(StandardPythonParameterType({"Results": StandardPythonParameterType([1.0])}))
def run(Inputs, GlobalParameters=1.0, request_headers=None):
    return {"Results": [Inputs, GlobalParameters, request_headers is None]}
"""

STATE = """
import os, sys, json
seen = []
def init():
    global ready
    ready = True
def run(data):
    import threading
    seen.append(data)
    return {"ready": ready, "name": __name__, "main": threading.current_thread() is threading.main_thread(), "cwd": os.path.samefile(os.getcwd(), os.environ["AML_APP_ROOT"]),
            "root_on_path": os.environ["AML_APP_ROOT"] in sys.path, "port": bool(os.environ.get("SERVER_PORT")), "script": os.path.basename(os.environ["AZUREML_ENTRY_SCRIPT"])}
"""

COROUTINE = """
def init(): pass
async def run(data): return data
"""

DRIVER = """
import types
driver_module = types.ModuleType("driver_module")
exec("def run(payload): return ['driven', payload]", driver_module.__dict__)
driver_module.__file__ = "x.py"
def init(): pass
def run(data): return "not this"
"""

SIBLING = """
import sibling
def init(): pass
def run(data): return sibling.VALUE
"""

CLASS_RUN = """
class Runner:
    def __call__(self, data): return ["called", data]
    def method(self, payload): return ["method", payload]
def init(): pass
run = Runner().method
"""

SCRIPTS: Final = {
    "echo": ECHO,
    "parsed": PARSED,
    "results": RESULTS,
    "faults": FAULTS,
    "headers": HEADERS,
    "headers-first": HEADERS_FIRST,
    "raw": RAW.replace("def run(request)", "@rawhttp\ndef run(request)"),
    "flask": FLASK,
    "schema": SCHEMA,
    "nested": NESTED,
    "state": STATE,
    "coroutine": COROUTINE,
    "driver": DRIVER,
    "sibling": SIBLING,
    "class-run": CLASS_RUN,
}

BROKEN: Final = {
    "no-init": "def run(data): return data",
    "no-run": "def init(): pass",
    "syntax": "def init(: pass",
    "import": "import no_such_module_anywhere\ndef init(): pass\ndef run(data): return data",
    "raises-at-import": "raise ValueError('at import')",
    "exits-at-import": "import sys; sys.exit(0)",
    "init-raises": "def init(): raise ValueError('the init failed')\ndef run(data): return data",
    "init-exits": "import sys\ndef init(): sys.exit(0)\ndef run(data): return data",
    "var-args": "def init(): pass\ndef run(*args): return 1",
    "kwargs": "def init(): pass\ndef run(data, **kwargs): return 1",
    "positional-only": "def init(): pass\ndef run(data, /): return 1",
    "no-argument": "def init(): pass\ndef run(): return 1",
    "headers-only": "def init(): pass\ndef run(request_headers): return 1",
    "run-is-no-function": "def init(): pass\nrun = 5",
    "raw-and-schema": SCHEMA.replace(
        '@input_schema("data"',
        'from azureml.contrib.services.aml_request import rawhttp\n@rawhttp\n@input_schema("data"',
        1,
    ),
}
"""Scripts that no server can serve: both exit with code 3."""
