"""`Response` and `AMLResponse` for entry scripts, compatible with Flask's in what such scripts use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Union

from mlpkg.runtime.datastructures import Headers

Body = Union[str, bytes, bytearray, Iterable[Any], None]  # noqa: UP007 - evaluated, and Python 3.9 has no |


def _status(status: int | str | HTTPStatus | None) -> tuple[int, str]:
    if status is None:
        return 200, "200 OK"
    if isinstance(status, str):
        code, _, reason = status.strip().partition(" ")
        if not code.isdigit():
            return 0, f"0 {status}"
        return (int(code), status) if reason else _status(int(code))
    try:
        return int(status), f"{int(status)} {HTTPStatus(status).phrase.upper()}"
    except ValueError:
        return int(status), f"{int(status)} UNKNOWN"


class Response:
    """Body, status and headers of an answer; an iterable body is sent piece by piece."""

    default_mimetype = "text/html"

    def __init__(  # noqa: PLR0913, PLR0917 - Flask's signature
        self,
        response: Body = None,
        status: int | str | HTTPStatus | None = None,
        headers: Any = None,
        mimetype: str | None = None,
        content_type: str | None = None,
        direct_passthrough: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        if content_type is None:
            if mimetype is not None or "Content-Type" not in self.headers:
                kind = mimetype or self.default_mimetype
                self.headers["Content-Type"] = _with_charset(kind)
        else:
            self.headers["Content-Type"] = content_type
        self.status_code, self._status = _status(status)
        self.direct_passthrough = direct_passthrough
        self._on_close: list[Callable[[], Any]] = []
        self.response: Iterable[Any] = []
        if isinstance(response, (str, bytes, bytearray)):
            self.set_data(response)
        elif response is not None:
            iter(response)  # raises TypeError here, in run(), and not while the answer is sent
            self.response = list(response) if hasattr(response, "__len__") else response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.status}]>"

    @property
    def status(self) -> str:
        """Code and reason."""
        if self._status.partition(" ")[0] != str(self.status_code):
            self._status = _status(self.status_code)[1]
        return self._status

    @status.setter
    def status(self, value: int | str) -> None:
        self.status_code, self._status = _status(value)

    @property
    def is_streamed(self) -> bool:
        """Whether the body's length is not known."""
        return not isinstance(self.response, (list, tuple))

    def iter_encoded(self) -> Iterator[bytes]:
        """The body's pieces as bytes."""
        for piece in self.response:
            yield piece.encode() if isinstance(piece, str) else bytes(piece)

    def get_data(self, as_text: bool = False) -> Any:  # noqa: FBT001, FBT002 - Flask's signature
        """The whole body."""
        data = b"".join(self.iter_encoded())
        self.response = [data]
        return data.decode() if as_text else data

    def set_data(self, value: str | bytes | bytearray) -> None:
        """Replace the body, and its length."""
        data = value.encode() if isinstance(value, str) else bytes(value)
        self.response = [data]
        self.headers["Content-Length"] = len(data)

    data = property(get_data, set_data)

    @property
    def content_type(self) -> str | None:
        """The Content-Type field."""
        value: str | None = self.headers.get("Content-Type")
        return value

    @content_type.setter
    def content_type(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def mimetype(self) -> str:
        """The content type without parameters."""
        return (self.content_type or "").partition(";")[0].strip().lower()

    @mimetype.setter
    def mimetype(self, value: str) -> None:
        self.headers["Content-Type"] = _with_charset(value)

    @property
    def content_length(self) -> int | None:
        """The Content-Length field."""
        value: int | None = self.headers.get("Content-Length", type=int)
        return value

    @property
    def is_json(self) -> bool:
        """Whether the content type says JSON."""
        kind = self.mimetype
        return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))

    @property
    def json(self) -> Any:
        """The body as a JSON value."""
        return self.get_json()

    def get_json(self, force: bool = False, silent: bool = False) -> Any:  # noqa: FBT001, FBT002 - Flask's signature
        """The body as a JSON value; None where the content type is another, or `silent` and it is not JSON."""
        if not (force or self.is_json):
            return None
        try:
            return json.loads(self.get_data())
        except ValueError:
            if silent:
                return None
            raise

    def set_cookie(self, key: str, value: str = "", **options: Any) -> None:
        """Add a Set-Cookie field; options are max_age, expires, path, domain, secure, httponly, samesite."""
        parts = [f"{key}={value}"]
        options.setdefault("path", "/")
        names = {
            "domain": "Domain",
            "expires": "Expires",
            "max_age": "Max-Age",
            "path": "Path",
            "samesite": "SameSite",
        }
        for option, name in names.items():
            if options.get(option) is not None:
                parts.append(f"{name}={options[option]}")
        parts += [
            name for option, name in (("secure", "Secure"), ("httponly", "HttpOnly")) if options.get(option)
        ]
        self.headers.add("Set-Cookie", "; ".join(parts))

    def delete_cookie(self, key: str, path: str = "/", domain: str | None = None) -> None:
        """Add a Set-Cookie field that ends a cookie."""
        self.set_cookie(key, expires="Thu, 01 Jan 1970 00:00:00 GMT", max_age=0, path=path, domain=domain)

    def call_on_close(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Have a function called when the answer is sent."""
        self._on_close.append(function)
        return function

    def close(self) -> None:
        """Close the body and call what waits for that."""
        if hasattr(self.response, "close"):
            self.response.close()
        for function in self._on_close:
            function()


class AMLResponse(Response):
    """The answer of an entry script: message, status and headers (azure-contract §2, Output)."""

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, str] | None = None,
        json_str: bool = False,  # noqa: FBT001, FBT002 - Azure's signature
        run_function_failed: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        fields = response_headers or {}
        if message is None or json_str:
            text = json.dumps({} if message is None else message)
            super().__init__(text, status=status_code, mimetype="application/json")
        else:
            super().__init__(message, status=status_code)
            if "Content-Type" in fields:
                self.headers.remove("Content-Type")
        self.headers["x-ms-run-function-failed"] = run_function_failed
        for name, value in fields.items():
            for part in value.split(","):
                self.headers.add_header(name, part.strip())


def _with_charset(mimetype: str) -> str:
    texts = ("application/ecmascript", "application/javascript", "application/sql", "application/xml")
    is_text = mimetype.startswith("text/") or mimetype in texts or mimetype.endswith("+xml")
    return f"{mimetype}; charset=utf-8" if is_text and "charset" not in mimetype else mimetype
