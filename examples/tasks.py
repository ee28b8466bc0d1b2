"""The examples' own doit tasks: training is an ordinary task, whose target is a package's model."""

import sys
from collections.abc import Iterator
from typing import Any


def task_train() -> Iterator[dict[str, Any]]:
    """Train the examples' models."""
    folder = "examples/diabetes"
    model = f"{folder}/model/diabetes.joblib"
    yield {
        "name": "diabetes",
        "doc": "ridge regression on the diabetes data",
        "file_dep": [f"{folder}/train.py", f"{folder}/requirements.txt"],
        "targets": [model],
        "actions": [[sys.executable, f"{folder}/train.py", model]],
        "clean": True,
    }
