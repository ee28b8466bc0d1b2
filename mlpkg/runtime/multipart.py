"""Form bodies: ``application/x-www-form-urlencoded`` and ``multipart/form-data`` (RFC 7578), already in memory."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH123

from __future__ import annotations

import io
import os
import shutil
from email.message import Message
from email.parser import BytesHeaderParser
from typing import IO, Any, Final
from urllib.parse import parse_qsl

from mlpkg.runtime.datastructures import MultiDict

MAX_PARTS: Final = 1000
"""Flask's limit on the number of parts."""


class FileStorage:
    """One file of a form."""

    def __init__(self, data: bytes, filename: str, name: str, headers: Message) -> None:
        self.stream = io.BytesIO(data)
        self.filename = filename
        self.name = name
        self.headers = headers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)

    def __repr__(self) -> str:
        return f"<FileStorage: {self.filename!r} ({self.content_type!r})>"

    @property
    def content_type(self) -> str:
        """The part's Content-Type field."""
        return str(self.headers.get("Content-Type", ""))

    @property
    def mimetype(self) -> str:
        """The part's content type without parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        """The part's Content-Length field, else 0."""
        text = str(self.headers.get("Content-Length", "0"))
        return int(text) if text.isdigit() else 0

    def save(self, dst: str | os.PathLike[str] | IO[bytes], buffer_size: int = 16384) -> None:
        """Write what is left of the file to a path or a file."""
        if isinstance(dst, (str, os.PathLike)):
            with open(dst, "wb") as file:
                shutil.copyfileobj(self.stream, file, buffer_size)
        else:
            shutil.copyfileobj(self.stream, dst, buffer_size)

    def close(self) -> None:
        """Release the content."""
        self.stream.close()


def parse_form(content_type: str, body: bytes) -> tuple[MultiDict, MultiDict]:
    """Fields and files of a form; both empty for another content type or a broken body."""
    message = Message()
    message["Content-Type"] = content_type
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "application/x-url-encoded"):
        return MultiDict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)), MultiDict()
    boundary = message.get_boundary() if kind == "multipart/form-data" else None
    if not boundary:
        return MultiDict(), MultiDict()
    return _parts(body, boundary.encode("latin-1", "replace"))


def _parts(body: bytes, boundary: bytes) -> tuple[MultiDict, MultiDict]:
    form, files = MultiDict(), MultiDict()
    delimiter = b"\r\n--" + boundary
    sections = (b"\r\n" + body).split(delimiter, MAX_PARTS + 1)[1:]
    for section in sections:
        if section.startswith(b"--"):
            break
        head, separator, content = section.lstrip(b" \t").partition(b"\r\n\r\n")
        if not separator:
            continue
        headers = BytesHeaderParser().parsebytes(head.lstrip(b"\r\n") + b"\r\n\r\n")
        name = headers.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        filename = headers.get_filename()
        if filename is None:
            form.add(name, content.decode(headers.get_content_charset("utf-8"), "replace"))
        else:
            files.add(name, FileStorage(content, filename, name, headers))
    return form, files
