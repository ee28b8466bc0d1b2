"""What the server needs beside the standard library: docs/decisions/0010-http-layer.md."""

from __future__ import annotations

from typing import Final

REQUIREMENTS: Final[tuple[str, ...]] = ("httptools>=0.5",)
"""Requirements (PEP 508), locked together with the user's own."""

RAWHTTP: Final[tuple[str, ...]] = ("werkzeug>=2.2.3",)
"""What `rawhttp`, `AMLRequest` and `AMLResponse` need besides; 2.2.3 is the first that bounds a form's parts."""

RAWHTTP_MODULES: Final[tuple[str, ...]] = ("azureml.contrib.services", "azureml_inference_server_http.api")
"""The modules whose import, or the import of one below them, says that a script needs `RAWHTTP`."""
