"""Entry script in Azure ML's style: `init` once, `run` for each request."""

import json
import os
from pathlib import Path

import joblib
import numpy as np


def init() -> None:
    global model
    model = joblib.load(Path(os.environ["AZUREML_MODEL_DIR"]) / "diabetes.joblib")


def run(data: str) -> list[float]:
    rows = np.array(json.loads(data)["data"])
    return model.predict(rows).tolist()
