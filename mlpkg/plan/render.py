"""The plan as texts: plan.json, Dockerfile and .dockerignore. Pure: plan and template texts in, bytes out.

Templates get one flat view and decide nothing but presence; an undefined name is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlpkg.errors import MlpkgError
from mlpkg.plan.plan import BuildPlan, PlannedLayer, to_json

TEMPLATES = {"Dockerfile": "Dockerfile.j2", ".dockerignore": "dockerignore.j2"}
"""Rendered file: its template."""


def render(plan: BuildPlan, templates: Mapping[str, str]) -> dict[str, bytes]:
    """The rendered files by name. `templates` are texts by template name.

    Raises MlpkgError naming the template for an undefined name or a syntax error in it.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined, TemplateError  # noqa: PLC0415 - slow to import

    environment = Environment(
        loader=DictLoader(dict(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Dockerfile text, not HTML; every value is quoted below
    )
    view = _view(plan)
    files = {"plan.json": plan_bytes(plan)}
    for name, template in TEMPLATES.items():
        try:
            files[name] = environment.get_template(template).render(view).encode()
        except TemplateError as error:
            raise MlpkgError(
                f"template {template}: {error}", hint="see templates/ and docs/reference"
            ) from error
    return files


def plan_bytes(plan: BuildPlan) -> bytes:
    """plan.json: indented, in the plan's own order."""
    return (json.dumps(to_json(plan), indent=1, ensure_ascii=False) + "\n").encode()


def layer_file(number: int, layer: PlannedLayer) -> str:
    """A locked layer's place in the build context, or the folder with a layer's files.

    `number` is the layer's place in the plan, from 0: two names may differ only in what a file name cannot hold.
    """
    safe = f"{number:02}-" + layer.name.replace(":", "-").replace("/", "-")
    return f"layers/{safe}.tar" if layer.digest else f"files/{safe}"


def _view(plan: BuildPlan) -> dict[str, Any]:
    config = plan.config
    return {
        "title": f"{plan.name}:{plan.tags[0]}",
        "layers": [
            {"comment": _one_line(layer.comment), "instruction": _instruction(number, layer)}
            for number, layer in enumerate(plan.layers)
        ],
        "environment": [f"{name}={_quoted(value)}" for name, value in config.env],
        "labels": [f"{_quoted(name)}={_quoted(value)}" for name, value in config.labels],
        "working_dir": config.working_dir,
        "user": config.user,
        "port": config.port,
        "health": json.dumps(list(config.health_command)) if config.health_command else "",
        "command": json.dumps(list(config.command)),
    }


def _instruction(number: int, layer: PlannedLayer) -> str:
    if layer.digest:
        return f"ADD {json.dumps([layer_file(number, layer), '/'])}"
    return f"COPY {json.dumps([layer_file(number, layer) + '/', '/'])}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    """A Dockerfile word in double quotes. A line break cannot be written there: refused."""
    if "\n" in text or "\r" in text:
        raise MlpkgError(
            f"a line break in {text!r} cannot be written in a Dockerfile", hint="put it into a file"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
