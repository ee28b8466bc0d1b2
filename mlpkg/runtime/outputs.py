"""From what `run` returned to an answer (azure-contract §2, Output)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlpkg.runtime.logs import LOGGER

FAILED = "x-ms-run-function-failed"
INTERNAL_ERROR = "An unexpected internal error occurred. Check the logs for more info."
SCRIPT_ERROR = "An unexpected error occurred in scoring script. Check the logs for more info."

_ENTITY: Final = frozenset(
    (
        "allow",
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "last-modified",
    )
)


@dataclass(frozen=True)
class Answer:
    """Status, header fields, body (pieces where it is streamed), and how long `run` took, if it returned.

    `outcome` is what the metrics count: ``ok``, ``input``, ``error``, ``timeout`` or ``unserialisable``.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes | Iterator[bytes]
    elapsed_ms: float | None = None
    outcome: str = "ok"
    close: Callable[[], Any] | None = None


def json_answer(status: int, value: object, *, failed: bool = False, outcome: str = "ok") -> Answer:
    """A JSON answer. Raises TypeError or ValueError for a value that JSON does not have."""
    headers = (("Content-Type", "application/json"), (FAILED, str(failed)))
    return Answer(status, headers, json.dumps({} if value is None else value).encode(), outcome=outcome)


def error_answer(status: int, message: str, outcome: str, *, failed: bool = False) -> Answer:
    """An error in the contract's form."""
    return json_answer(status, {"message": message}, failed=failed, outcome=outcome)


def to_answer(value: Any, elapsed_ms: float, *, lenient: bool) -> Answer:
    """The answer for what `run` returned."""
    if _is_response(value):
        return _response_answer(value, elapsed_ms)
    try:
        text = json.dumps({} if value is None else value, default=_plain if lenient else None)
    except (TypeError, ValueError, RecursionError) as error:
        LOGGER.error(
            "Encountered Exception: run() returned what JSON cannot hold: %s\n  %s", error, _advice(value)
        )
        return error_answer(500, INTERNAL_ERROR, "unserialisable")
    headers = (("Content-Type", "application/json"), (FAILED, "False"))
    return Answer(200, headers, text.encode(), elapsed_ms)


def _is_response(value: object) -> bool:
    """Ours, or Flask's where the script has loaded Flask."""
    ours = sys.modules.get("mlpkg.runtime.response")
    flask = sys.modules.get("flask")
    return (ours is not None and isinstance(value, ours.AMLResponse)) or (
        flask is not None and isinstance(value, flask.Response)
    )


def _response_answer(response: Any, elapsed_ms: float) -> Answer:
    if response.status_code >= 500:
        response.headers[FAILED] = "True"
    headers = [(str(name), str(value)) for name, value in response.headers.items()]
    if response.status_code == 304:
        # "Not modified" describes no body (RFC 9110, 15.4.5).
        headers = [(name, value) for name, value in headers if name.lower() not in _ENTITY]
    body = response.iter_encoded() if response.is_streamed else b"".join(response.iter_encoded())
    return Answer(response.status_code, headers, body, elapsed_ms, close=response.close)


def _plain(value: Any) -> Any:
    """MLPKG_LENIENT: the nearest JSON value of numpy's, pandas' and other common types."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if module == "pandas" and hasattr(value, "to_dict"):
        return value.to_dict(orient="records") if hasattr(value, "columns") else value.tolist()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _advice(value: Any) -> str:
    """What the script's author can do about a result that JSON does not have."""
    kinds = {
        "numpy": "convert it with .tolist()",
        "pandas": "convert it with .to_dict(orient='records'), or return AMLResponse(frame.to_json(), 200)",
        "builtins": "return dict, list, str, int, float, bool or None",
    }
    if hasattr(value, "__await__"):
        value.close()
        return "run() is a coroutine function: write `def run`, or set MLPKG_LENIENT=true, which awaits it"
    module = _first_odd(value, 0)
    return f"{kinds.get(module, kinds['builtins'])}; MLPKG_LENIENT=true does that for common types"


def _first_odd(value: Any, depth: int) -> str:
    if depth < 4 and isinstance(value, dict) and value:
        value = next((item for item in value.values() if _is_odd(item)), None)
        return _first_odd(value, depth + 1)
    if depth < 4 and isinstance(value, (list, tuple)) and value:
        return _first_odd(next((item for item in value if _is_odd(item)), None), depth + 1)
    return type(value).__module__.partition(".")[0]


def _is_odd(value: object) -> bool:
    return not isinstance(value, (str, int, float, bool, type(None)))
