"""The tag step: which tags the built image will carry. Nothing is sent yet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpkg.errors import MlpkgError
from mlpkg.spec.workspace import Package
from mlpkg.steps import build, render
from mlpkg.steps.step import Consumed, Done, Wanted, has_texts, read_record, write_record

NAME = "tag"
DOC = "give the image its tags"
RECORD = "tags.json"

_HERE = sys.modules[__name__]


def reads(package: Package) -> tuple[Path, ...]:
    """Nothing of the package's own."""
    del package
    return ()


def fits(result: Mapping[str, Any]) -> bool:
    """The repository, the digest and the tags."""
    return has_texts(result, "repository", "digest", lists=["tags"])


def wanted(package: Package) -> Wanted:
    """The built image and the plan's tags."""
    image = str(build.result(package).get("digest", ""))
    return Wanted((), {"image": image, "tags": " ".join(render.planned_tags(package))})


def perform(package: Package) -> Done:
    """Write down what the next push tags. Raises MlpkgError where nothing is built."""
    want = wanted(package)
    image, tags = want.values["image"], want.values["tags"].split()
    if not image or not tags:
        raise MlpkgError(f"{package.name}: not built yet", hint=f"run `mlpkg build {package.name}`")
    result = {"repository": package.name, "digest": image, "tags": tags}
    write_record(_HERE, package, want, Consumed({}, result=result))
    return Done(tuple(f"{package.name}:{tag} -> {image[:19]}" for tag in tags))


def products(package: Package) -> tuple[Path, ...]:
    """None beside the record."""
    del package
    return ()


def result(package: Package) -> Mapping[str, Any]:
    """What was tagged last: `digest` and `tags`; empty where nothing was."""
    record = read_record(_HERE, package)
    return record.result if record else {}
