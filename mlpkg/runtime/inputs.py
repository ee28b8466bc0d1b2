"""From a request to the arguments of `run`: three ways, chosen by how `run` is decorated (azure-contract §2, Input)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from mlpkg.runtime.incoming import Incoming
from mlpkg.runtime.logs import LOGGER

Parser = Callable[[Incoming], dict[str, Any]]


class InputError(Exception):
    """The request cannot become arguments: `status` and `message` are the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class UnsupportedMethod(Exception):
    """Neither GET nor POST, and `run` does not take requests as they are."""


def raw_request(name: str) -> Parser:
    """`@rawhttp`: the request itself, whatever its method."""

    def parse(incoming: Incoming) -> dict[str, Any]:
        from mlpkg.runtime.request import request_object  # noqa: PLC0415 - few scripts need it

        return {name: request_object(incoming)}

    return parse


def json_text(name: str, *, lenient: bool) -> Parser:
    """No decorator: the body as text, or the query's parameters as JSON text."""

    def parse(incoming: Incoming) -> dict[str, Any]:
        if incoming.method == "GET":
            return {name: json.dumps(incoming.query_values())}
        if incoming.method != "POST":
            raise UnsupportedMethod
        body = incoming.body
        if body and incoming.is_form and not lenient:
            LOGGER.warning(
                "The request's Content-Type is %s, so run() gets an empty text, as with Azure's server: "
                "send Content-Type: application/json, or set MLPKG_LENIENT=true",
                incoming.mimetype,
            )
            body = b""
        try:
            return {name: str(body, "utf-8")}
        except UnicodeDecodeError as error:
            raise InputError(400, f"Input cannot be decoded as UTF-8: {error}") from None

    return parse


def named_values(parameters: Sequence[inspect.Parameter]) -> Parser:
    """`@input_schema`: one argument per parameter, from a JSON object or the query."""

    def parse(incoming: Incoming) -> dict[str, Any]:
        if incoming.method == "GET":
            values = incoming.query_values()
        elif incoming.method == "POST":
            values = _json_object(incoming)
        else:
            raise UnsupportedMethod
        arguments = {}
        for parameter in parameters:
            value = values.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                raise InputError(400, f"A value is not provided for the {parameter.name!r} parameter.")
            arguments[parameter.name] = value
        return arguments

    return parse


def _json_object(incoming: Incoming) -> dict[str, Any]:
    if not incoming.is_json:
        raise InputError(415, "Expects Content-Type to be application/json")
    if not incoming.body:
        raise InputError(400, "POST body is empty. Expecting a JSON dictionary.")
    try:
        value = json.loads(incoming.body)
    except json.JSONDecodeError as error:
        raise InputError(400, f"POST body could not be decoded as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(400, "POST body should be a JSON dictionary.")
    return value
