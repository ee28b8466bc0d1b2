"""The frames between front and worker, over one stream socket.

Both ends run the same code in the same container, so the format has no version. Lines of text are
latin-1, as HTTP header fields are.

To the worker:    length of head, length of body | head: method, target, scheme, client address, request id,
                  then one ``name: value`` per header field | body
To the front:     kind, length of head, length of body | head | body
"""

from __future__ import annotations

import struct
from typing import Final

REQUEST: Final = struct.Struct(">II")
REPLY: Final = struct.Struct(">cII")
LARGEST: Final = 2**30
"""Bytes of a body that go into one frame."""

READY: Final = b"R"
"""Head: seconds that loading and init took. Body: JSON object, swagger version -> document."""
ANSWER: Final = b"A"
"""Head: status, milliseconds of run (empty: it did not return), outcome, header fields. Body: the body."""
STREAM: Final = b"S"
"""Head as ANSWER's; the body follows in CHUNK frames and ends with END."""
CHUNK: Final = b"C"
END: Final = b"E"
"""Head: `failed` when the body is not complete."""


def request_frame(head: str, body: bytes) -> bytes:
    """A frame for the worker, without its body (which is sent after it, uncopied)."""
    data = head.encode("latin-1", "replace")
    return REQUEST.pack(len(data), len(body)) + data


def reply_frame(kind: bytes, head: str, body: bytes) -> bytes:
    """A frame for the front, without its body."""
    data = head.encode("latin-1", "replace")
    return REPLY.pack(kind, len(data), len(body)) + data


class ReplyReader:
    """Cuts the byte stream of one worker into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, str, bytes]]:
        """Take some bytes; return the frames that are now complete: (kind, head, body)."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[bytes, str, bytes]] = []
        position = 0
        while len(buffer) - position >= REPLY.size:
            kind, head_size, body_size = REPLY.unpack_from(buffer, position)
            start = position + REPLY.size
            end = start + head_size + body_size
            if len(buffer) < end:
                break
            middle = start + head_size
            frames.append((kind, buffer[start:middle].decode("latin-1"), bytes(buffer[middle:end])))
            position = end
        if position:
            del buffer[:position]
        return frames
