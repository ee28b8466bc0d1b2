"""Which package provides a module that is missing: only what is known, since a wrong name costs a build."""

from __future__ import annotations

from typing import Final

PACKAGES: Final[dict[str, str]] = {
    "attr": "attrs",
    "azure.identity": "azure-identity",
    "azure.keyvault.secrets": "azure-keyvault-secrets",
    "azure.storage.blob": "azure-storage-blob",
    "azureml.core": "azureml-core",
    "azureml.monitoring": "azureml-monitoring",
    "bs4": "beautifulsoup4",
    "catboost": "catboost",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "flask": "flask",
    "google.protobuf": "protobuf",
    "inference_schema": "inference-schema",
    "joblib": "joblib",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "matplotlib": "matplotlib",
    "mlflow": "mlflow",
    "nltk": "nltk",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "pandas": "pandas",
    "PIL": "pillow",
    "pkg_resources": "setuptools<81",  # later versions are without it
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "pyodbc": "pyodbc",
    "requests": "requests",
    "scipy": "scipy",
    "setuptools": "setuptools",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sklearn_pandas": "sklearn-pandas",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "werkzeug": "werkzeug",
    "xgboost": "xgboost",
    "yaml": "pyyaml",
}
"""Module -> the requirement that brings it."""


def import_hint(error: BaseException) -> str:
    """What the script's author can do about an import that failed; empty where that is not known."""
    if not isinstance(error, ImportError) or not error.name:
        return ""
    name = error.name
    if not isinstance(error, ModuleNotFoundError) and not name.startswith("azureml."):
        return ""  # the module is there, in a version without that name
    package = _package_of(name)
    if package:
        return f"Add {package!r}, which provides the module {name!r}, to the package's requirements."
    if "." in name:
        return ""  # its parent is there: another version of it, or a part that is a package of its own
    return (
        f"Add what provides the module {name!r} to the package's requirements, or, if it is a file beside the script,"
        " set entry.source_directory (AZUREML_SOURCE_DIRECTORY)."
    )


def _package_of(name: str) -> str:
    """The requirement for a module. Of ``a.b.c`` the package of ``a`` is there, else the error would name ``a``."""
    parts = name.split(".")
    parents = (".".join(parts[:count]) for count in range(len(parts), min(len(parts), 2) - 1, -1))
    return next((PACKAGES[parent] for parent in parents if parent in PACKAGES), "")
