"""The few `azureml` modules that entry scripts import, without Azure's packages.

`azureml.contrib.services` and `azureml_inference_server_http.api` (`rawhttp`, `AMLRequest`, `AMLResponse`) always come
from here, as with Azure's server. `azureml.core.model` comes from here only where azureml-core is not installed.
Clean-room: written from the documented behaviour alone (azure-contract §1.3).
"""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH100, PTH110, PTH118, PTH208

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, TypeVar

from mlpkg.runtime.requirements import RAWHTTP, RAWHTTP_MODULES

Function = TypeVar("Function", bound=Callable[..., Any])

MODELS_FOLDER: Final = "azureml-models"


class _RawHttp:
    """Whether the script has decorated a function with `@rawhttp`."""

    is_requested = False


def rawhttp(func: Function) -> Function:
    """Have `run` called with the request itself."""
    _RawHttp.is_requested = True
    return func


def rawhttp_requested() -> bool:
    """Whether `@rawhttp` was used in this process."""
    return _RawHttp.is_requested


class ModelNotFoundException(Exception):
    """There is no such model in the image."""


class Model:
    """The part of Azure's `Model` that works inside an image: where a model's files are."""

    @staticmethod
    def get_model_path(
        model_name: str,
        version: int | None = None,
        _workspace: object = None,
    ) -> str:
        """The model's one file or folder below ``azureml-models/<name>/<version>``, relative to the working directory.

        Without a version, the highest. Without such a folder, ``./<name>``. Raises ModelNotFoundException.
        """
        folder = os.path.join(MODELS_FOLDER, model_name)
        if version is None:
            versions = [int(name) for name in _entries(folder) if name.isdigit()]
            version = max(versions) if versions else None
        if version is not None:
            place = os.path.join(folder, str(version))
            entries = _entries(place)
            if len(entries) == 1:
                return os.path.join(place, entries[0])
            if entries:
                raise ModelNotFoundException(
                    f"Model {model_name}:{version} has {len(entries)} entries in {os.path.abspath(place)}, so its path is not "
                    "one of them: use os.path.join(os.environ['AZUREML_MODEL_DIR'], <file>)"
                )
        if os.path.exists(model_name):
            return model_name
        raise ModelNotFoundException(
            f"Model {model_name!r}{'' if version is None else f' version {version}'} is not in "
            f"{os.path.abspath(folder)}; in the image: {', '.join(_entries(MODELS_FOLDER)) or 'no model'}"
        )


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _require_werkzeug() -> None:
    """Raise ImportError with what to do where the package is missing that requests and responses are made of."""
    try:
        import werkzeug  # noqa: F401, PLC0415 - few scripts need it
    except ModuleNotFoundError as error:
        if error.name != "werkzeug":
            raise
        raise ImportError(
            f"rawhttp, AMLRequest and AMLResponse need a package that is not installed: pip install '{RAWHTTP[0]}'"
            "\n  An image gets it by itself where its entry script, or a module of entry.source_directory that the"
            f" script imports, imports one of {', '.join(RAWHTTP_MODULES)}; else add it to the requirements."
        ) from None


def _request_module(module: ModuleType) -> None:
    _require_werkzeug()
    from mlpkg.runtime.request import AMLRequest  # noqa: PLC0415 - few scripts need it

    vars(module).update(AMLRequest=AMLRequest, rawhttp=rawhttp)


def _response_module(module: ModuleType) -> None:
    _require_werkzeug()
    from mlpkg.runtime.response import AMLResponse  # noqa: PLC0415 - few scripts need it

    vars(module).update(AMLResponse=AMLResponse)


def _services(module: ModuleType) -> None:
    _request_module(module)
    _response_module(module)


def _core(module: ModuleType) -> None:
    vars(module).update(Model=Model)


def _model_module(module: ModuleType) -> None:
    vars(module).update(Model=Model, ModelNotFoundException=ModelNotFoundException)


def _log_config(module: ModuleType) -> None:
    from mlpkg.runtime.logs import AzureFormatter, RootAccessFilter  # noqa: PLC0415 - few scripts need it

    vars(module).update(AMLLogFormatter=AzureFormatter, RootAccessFilter=RootAccessFilter)


def _empty(_module: ModuleType) -> None:
    """A package that only holds others."""


Fill = Callable[[ModuleType], None]

_ALWAYS: Final[dict[str, tuple[Fill, bool]]] = {
    "azureml.contrib.services.aml_request": (_request_module, False),
    "azureml.contrib.services.aml_response": (_response_module, False),
    "azureml_inference_server_http.api.aml_request": (_request_module, False),
    "azureml_inference_server_http.api.aml_response": (_response_module, False),
}
_WHERE_MISSING: Final[dict[str, tuple[Fill, bool]]] = {
    "azureml": (_empty, True),
    "azureml.contrib": (_empty, True),
    "azureml.contrib.services": (_services, True),
    "azureml.core": (_core, True),
    "azureml.core.model": (_model_module, False),
    "azureml_inference_server_http": (_empty, True),
    "azureml_inference_server_http.api": (_empty, True),
    "azureml_inference_server_http.log_config": (_log_config, False),
}
"""Module name -> (what fills it, whether it is a package)."""


class _Finder:
    """Finds and makes the modules of one table (PEP 451).

    It does not derive from importlib.abc's classes: their import would be a tenth of the start-up.
    """

    def __init__(self, table: dict[str, tuple[Fill, bool]]) -> None:
        self.table = table

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import system's question (PEP 451)."""
        del path, target
        entry = self.table.get(fullname)
        if entry is None:
            return None
        loader: Any = self
        return importlib.machinery.ModuleSpec(fullname, loader, is_package=entry[1])

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> None:
        """Leave it to the import system to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        self.table[module.__name__][0](module)


def install() -> None:
    """Make the modules importable; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(_ALWAYS))
        sys.meta_path.append(_Finder(_WHERE_MISSING))
