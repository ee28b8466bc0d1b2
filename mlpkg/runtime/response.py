"""`AMLResponse` for entry scripts: werkzeug's response with Azure's arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from werkzeug.wrappers import Response


class AMLResponse(Response):
    """The answer of an entry script: message, status and headers (azure-contract §2, Output)."""

    default_mimetype: str | None = "text/html"  # Flask's

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, str] | None = None,
        json_str: bool = False,  # noqa: FBT001, FBT002 - Azure's signature
        run_function_failed: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        fields = response_headers or {}
        if message is None or json_str:
            text = json.dumps({} if message is None else message)
            super().__init__(text, status=status_code, mimetype="application/json")
        else:
            super().__init__(message, status=status_code)
            iter(self.response)  # raises TypeError here, in run(), and not while the answer is sent
            if "Content-Type" in fields:
                self.headers.remove("Content-Type")
        self.headers["x-ms-run-function-failed"] = str(run_function_failed)
        for name, value in fields.items():
            for part in value.split(","):
                self.headers.add(name, part.strip())
