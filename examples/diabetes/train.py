"""Train a ridge regression on scikit-learn's diabetes data and keep it as a joblib file."""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge


def train(target: Path) -> None:
    data, progression = load_diabetes(return_X_y=True)
    model = Ridge(alpha=0.03).fit(data, progression)
    target.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, target)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
