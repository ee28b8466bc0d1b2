"""The request that `@rawhttp` scripts get: werkzeug's, with the names that Flask adds to it.

A script that imports Flask itself gets Flask's own request, inside a request context. Only scripts that
import `azureml.contrib.services` load this module, so only they need werkzeug.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import unquote

from werkzeug.wrappers import Request

from mlpkg.runtime.incoming import Incoming


class AMLRequest(Request):
    """One HTTP request, whole: the body has arrived before `run` is called, and the front has bounded it.

    Flask's attributes say what they say in Azure's server, where `run` stands behind one route.
    """

    url_rule: Any = None
    routing_exception: Exception | None = None
    endpoint = "main.handle_score"
    blueprint = "main"

    @property
    def blueprints(self) -> list[str]:
        """The blueprint, and those around it."""
        return [self.blueprint]

    @property
    def view_args(self) -> dict[str, Any]:
        """The path's parameters: it has none."""
        return {}


def wsgi_environment(incoming: Incoming) -> dict[str, Any]:
    """The request as a WSGI environment (PEP 3333)."""
    path, _, query = incoming.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": incoming.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": incoming.target,
        "REQUEST_URI": incoming.target,
        # Where the server listens, as with gunicorn; the Host field, where there is one, makes the addresses.
        "SERVER_NAME": os.environ.get("MLPKG_HOST") or "0.0.0.0",  # noqa: S104 - a name, nothing listens here
        "SERVER_PORT": os.environ.get("SERVER_PORT") or "5001",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": incoming.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": incoming.scheme,
        "wsgi.input": io.BytesIO(incoming.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": (os.environ.get("WORKER_COUNT") or "1").strip() != "1",
        "wsgi.run_once": False,
    }
    for name, value in incoming.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return environ


def request_object(incoming: Incoming) -> Any:
    """What `run` gets: Flask's request where the script has loaded Flask, else our own."""
    flask = sys.modules.get("flask")
    kind = AMLRequest if flask is None else flask.Request
    return kind(wsgi_environment(incoming))


def request_context(request: object) -> AbstractContextManager[object]:
    """Flask's request context for Flask's request, so that `flask.request` works in the script."""
    flask = sys.modules.get("flask")
    if flask is None or not isinstance(request, flask.Request):
        return nullcontext()
    app = flask.Flask("entry_module")
    context: AbstractContextManager[object] = app.request_context(request.environ)
    return context
