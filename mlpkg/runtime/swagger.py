"""The swagger documents 2.0, 3.0 and 3.1: the user's own files, or generated from run's schema (azure-contract §2)."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from typing import Any, Final

from mlpkg.runtime.contract import VERSIONS
from mlpkg.runtime.logs import SWAGGER_LOGGER
from mlpkg.runtime.script import ScriptError, is_schema_decorated
from mlpkg.runtime.settings import Settings

_FILES: Final[dict[str, tuple[str, ...]]] = {
    "2": ("swagger.json", "swagger2.json"),
    "3": ("swagger3.json",),
    "3.1": ("swagger3.1.json",),
}


def documents(settings: Settings, run: Callable[..., Any]) -> dict[str, Any]:
    """The documents of the versions that the script supports. Raises ScriptError for a file that is not JSON."""
    found = {}
    for version in VERSIONS:
        document = _own_file(settings.app_root, version) or _generated(settings, run, version)
        if document is not None:
            found[version] = document
    skipped = [version for version in VERSIONS if version not in found]
    SWAGGER_LOGGER.info(
        "Swaggers are prepared for the following versions: [%s]%s.",
        ", ".join(found),
        f", not for [{', '.join(skipped)}]" if skipped else "",
    )
    return found


def _own_file(app_root: str, version: str) -> Any:
    for name in _FILES[version]:
        path = os.path.join(app_root, name)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ScriptError(f"{path}: not a usable swagger file: {error}") from None
        SWAGGER_LOGGER.info("Loaded user's swagger file for version [%s] from %s", version, path)
        if document:
            return document
    return None


def _generated(settings: Settings, run: Callable[..., Any], version: str) -> Any:
    schemas = [{"type": "object", "example": {}}, {"type": "object", "example": {}}]
    if is_schema_decorated(run):
        from inference_schema import schema_util  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

        if not set(VERSIONS[version]) & set(schema_util.get_supported_versions(run)):
            return None
        schemas = [schema_util.get_input_schema(run), schema_util.get_output_schema(run)]
    prefix = settings.service_path_prefix.strip("/")
    document = _document(version, f"/{prefix}" if prefix else "")
    document["info"] = {
        "title": settings.service_name,
        "description": f"API specification for the Azure Machine Learning service {settings.service_name}",
        "version": settings.service_version,
    }
    place = document["definitions"] if version == "2" else document["components"]["schemas"]
    place["ServiceInput"], place["ServiceOutput"] = copy.deepcopy(schemas)
    return document


_BEARER: Final = {
    "Bearer": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "description": "For example: Bearer abc123",
    }
}
_ERROR: Final = {"type": "object", "properties": {"message": {"type": "string"}}}
_FAILED: Final = "The service failed to execute due to an error."
_HEALTHY: Final = "If service is up and running, this response will be returned with the content 'Healthy'"
_SCORED: Final = "The service processed the input correctly and provided a result prediction, if applicable."


def _document(version: str, prefix: str) -> dict[str, Any]:
    """The document's fixed part, in the words of the contract."""
    is_2 = version == "2"
    health = {
        "operationId": "ServiceHealthCheck",
        "description": "Simple health check endpoint to ensure the service is up at any given point.",
        "responses": _responses(version, _HEALTHY, {"type": "string"}, "text/plain"),
    }
    if is_2:
        health["responses"]["200"]["examples"] = {"application/json": "Healthy"}  # type: ignore[index]
    else:
        health["responses"]["200"]["content"]["text/plain"]["schema"]["example"] = "Healthy"  # type: ignore[index]
    score = {
        "operationId": "RunMLService",
        "description": "Run web service's model and get the prediction output",
        "security": [{"Bearer": []}],
        **_score_input(version),
        "responses": _responses(version, _SCORED, _reference(version, "ServiceOutput"), "application/json"),
    }
    versions = {"type": "integer", "enum": [2, 3]}
    parameter = {"name": "version", "in": "query", "required": False}
    swagger = {
        "operationId": "GetSwaggerSpec",
        "description": "Get the Swagger specification.",
        "parameters": [{**parameter, **(versions if is_2 else {"schema": versions})}],
        "responses": _responses(version, "The Swagger specification.", {"type": "string"}, "text/plain"),
    }
    paths = {
        f"{prefix}/": {"get": health},
        f"{prefix}/score": {"post": score},
        f"{prefix}/swagger.json": {"get": swagger},
    }
    if is_2:
        return {
            "swagger": "2.0",
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": copy.deepcopy(_BEARER),
            "paths": paths,
            "definitions": {"ErrorResponse": copy.deepcopy(_ERROR)},
        }
    return {
        "openapi": "3.0.3" if version == "3" else "3.1.0",
        "security": [{"Bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {"ErrorResponse": copy.deepcopy(_ERROR)},
            "securitySchemes": copy.deepcopy(_BEARER),
        },
    }


def _reference(version: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}" if version == "2" else f"#/components/schemas/{name}"}


def _content(version: str, schema: dict[str, Any], media_type: str) -> dict[str, Any]:
    return {"schema": schema} if version == "2" else {"content": {media_type: {"schema": schema}}}


def _responses(version: str, description: str, schema: dict[str, Any], media_type: str) -> dict[str, Any]:
    error = _content(version, _reference(version, "ErrorResponse"), "application/json")
    return {
        "200": {"description": description, **_content(version, dict(schema), media_type)},
        "default": {"description": _FAILED, **error},
    }


def _score_input(version: str) -> dict[str, Any]:
    description = "The input payload for executing the real-time machine learning service."
    schema = _reference(version, "ServiceInput")
    if version == "2":
        return {
            "parameters": [
                {"name": "serviceInputPayload", "in": "body", "description": description, "schema": schema}
            ]
        }
    return {"requestBody": {"description": description, **_content(version, schema, "application/json")}}
