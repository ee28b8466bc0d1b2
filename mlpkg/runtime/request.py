"""`Request` for `@rawhttp` scripts, compatible with Flask's in what such scripts use.

A script that imports Flask itself gets Flask's own request, inside a request context.
"""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import quote, unquote

from mlpkg.runtime.datastructures import Headers, MultiDict
from mlpkg.runtime.incoming import KEEP_PERCENT, Incoming
from mlpkg.runtime.multipart import FileStorage, parse_form

_PATH: Final = "!$&'()*+,/:;=@%"
_QUERY: Final = "!$&'()*+,/:;=?@%"
_UNSAFE: Final = "".join(map(chr, range(0x21))) + "%\x7f"


class BadRequest(Exception):
    """The body is not what the script asked for; the answer is that of any exception in run()."""

    code = 400


class Request:
    """One HTTP request, whole: the body has arrived before `run` is called."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._form: tuple[MultiDict, MultiDict] | None = None
        self._data: bytes | None = None
        self.stream = io.BytesIO(incoming.body)
        self.method = incoming.method
        self.headers: Headers = incoming.headers
        self.scheme = incoming.scheme
        self.remote_addr = incoming.client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url!r} [{self.method}]>"

    # -- address ---------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The path, decoded, without the query."""
        return unquote(self._incoming.target.partition("?")[0])

    @property
    def query_string(self) -> bytes:
        """The query, as it came."""
        return self._incoming.query.encode("latin-1")

    @property
    def full_path(self) -> str:
        """Path, question mark and query."""
        return f"{self.path}?{self._incoming.query}"

    @property
    def host(self) -> str:
        """The Host field."""
        return self.headers.get("Host", "") or "localhost"

    @property
    def host_url(self) -> str:
        """Scheme and host, with a slash at the end."""
        return f"{self.scheme}://{self.host}/"

    root_url = url_root = host_url

    @property
    def base_url(self) -> str:
        """The address without the query."""
        path = quote(unquote(self._incoming.target.partition("?")[0], "latin-1"), _PATH, "latin-1")
        return self.host_url[:-1] + readable_url(path, "/?#")

    @property
    def url(self) -> str:
        """The whole address."""
        query = quote(self._incoming.query, _QUERY, "latin-1")
        return self.base_url + (f"?{readable_url(query, '&=+#')}" if query else "")

    @property
    def is_secure(self) -> bool:
        """Whether the scheme is https."""
        return self.scheme == "https"

    @property
    def access_route(self) -> list[str]:
        """Addresses on the way here, the client's first."""
        forwarded = self.headers.get("X-Forwarded-For")
        return [part.strip() for part in forwarded.split(",")] if forwarded else [self.remote_addr]

    # -- parameters ------------------------------------------------------------------------------

    @property
    def args(self) -> MultiDict:
        """The query's parameters."""
        return self._incoming.args

    @property
    def form(self) -> MultiDict:
        """The form's fields."""
        return self._parsed_form()[0]

    @property
    def files(self) -> MultiDict:
        """The form's files (`FileStorage`)."""
        return self._parsed_form()[1]

    @property
    def values(self) -> MultiDict:
        """The query's parameters and the form's fields."""
        merged = MultiDict(self.args.lists())
        if self.method in ("POST", "PUT", "PATCH"):
            for key, value in self.form.items(multi=True):
                merged.add(key, value)
        return merged

    @property
    def cookies(self) -> MultiDict:
        """The Cookie field's values."""
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(self.headers.get("Cookie", ""))
        except CookieError:
            return MultiDict()
        return MultiDict((name, morsel.value) for name, morsel in jar.items())

    def _parsed_form(self) -> tuple[MultiDict, MultiDict]:
        if self._form is None:
            body = b""
            if self._incoming.is_form:
                body = self.stream.read() if self._data is None else self._data
            self._form = parse_form(self._incoming.content_type, body)
        return self._form

    # -- body ------------------------------------------------------------------------------------

    @property
    def content_type(self) -> str | None:
        """The Content-Type field."""
        value: str | None = self.headers.get("Content-Type")
        return value

    @property
    def content_length(self) -> int | None:
        """The Content-Length field; None for a chunked body."""
        value: int | None = self.headers.get("Content-Length", type=int)
        return value

    @property
    def mimetype(self) -> str:
        """The content type without parameters."""
        return self._incoming.mimetype

    @property
    def mimetype_params(self) -> dict[str, str]:
        """The content type's parameters."""
        _, *parameters = self._incoming.content_type.split(";")
        pairs = (parameter.strip().partition("=") for parameter in parameters)
        return {name.lower(): value.strip('"') for name, _, value in pairs if name}

    @property
    def is_json(self) -> bool:
        """Whether the content type says JSON."""
        return self._incoming.is_json

    def get_data(
        self,
        cache: bool = True,  # noqa: FBT001, FBT002 - Flask's signature
        as_text: bool = False,  # noqa: FBT001, FBT002
        parse_form_data: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """What is left of the body: all of it, unless `stream` was read, or a form was parsed before this was asked."""
        data = self._data
        if data is None:
            if parse_form_data:
                self._parsed_form()
            data = self.stream.read()
            if cache:
                self._data = data
        return data.decode("utf-8", "replace") if as_text else data

    @property
    def data(self) -> bytes:
        """The body; empty where it is a form (use `form` and `files`)."""
        data: bytes = self.get_data(parse_form_data=True)
        return data

    @property
    def json(self) -> Any:
        """The body as a JSON value. Raises BadRequest."""
        return self.get_json()

    def get_json(
        self,
        force: bool = False,  # noqa: FBT001, FBT002 - Flask's signature
        silent: bool = False,  # noqa: FBT001, FBT002
        cache: bool = True,  # noqa: FBT001, FBT002
    ) -> Any:
        """The body as a JSON value; None where it is not JSON and `silent`. Raises BadRequest."""
        if not (force or self.is_json):
            if silent:
                return None
            raise BadRequest(f"Content-Type is {self.content_type!r}, not application/json")
        try:
            return json.loads(self.get_data(cache=cache))
        except ValueError as error:
            if silent:
                return None
            raise BadRequest(f"The body is not JSON: {error}") from error

    # -- the rest --------------------------------------------------------------------------------

    @property
    def user_agent(self) -> str:
        """The User-Agent field."""
        return self.headers.get("User-Agent", "") or ""

    @property
    def referrer(self) -> str | None:
        """The Referer field."""
        value: str | None = self.headers.get("Referer")
        return value

    @property
    def environ(self) -> dict[str, Any]:
        """The request as a WSGI environment (PEP 3333)."""
        return wsgi_environment(self._incoming)


def readable_url(text: str, kept: str) -> str:
    """Percent-decode a part of an address for people, as Flask does: not `kept`, controls, space and percent."""
    codes = "|".join(f"{ord(mark):02X}" for mark in kept + _UNSAFE)
    pieces = re.split(f"((?:%(?:{codes}))+)", text, flags=re.IGNORECASE)
    pieces[::2] = [unquote(piece, errors=KEEP_PERCENT) for piece in pieces[::2]]
    return "".join(pieces)


class AMLRequest(Request):
    """Azure's name for the request."""


def wsgi_environment(incoming: Incoming) -> dict[str, Any]:
    """The request as a WSGI environment (PEP 3333)."""
    path, _, query = incoming.target.partition("?")
    host, _, port = (incoming.headers.get("Host") or "localhost").partition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": incoming.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": incoming.target,
        "REQUEST_URI": incoming.target,
        "SERVER_NAME": host,
        "SERVER_PORT": port or ("443" if incoming.scheme == "https" else "80"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": incoming.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": incoming.scheme,
        "wsgi.input": io.BytesIO(incoming.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in incoming.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return environ


def request_object(incoming: Incoming) -> Any:
    """What `run` gets: Flask's request where the script has loaded Flask, else our own."""
    flask = sys.modules.get("flask")
    return flask.Request(wsgi_environment(incoming)) if flask is not None else AMLRequest(incoming)


def request_context(request: object) -> AbstractContextManager[object]:
    """Flask's request context for Flask's request, so that `flask.request` works in the script."""
    flask = sys.modules.get("flask")
    if flask is None or not isinstance(request, flask.Request):
        return nullcontext()
    app = flask.Flask("entry_module")
    context: AbstractContextManager[object] = app.request_context(request.environ)
    return context


__all__ = ["AMLRequest", "BadRequest", "FileStorage", "Request", "request_context", "request_object"]
