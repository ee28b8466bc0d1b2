"""Heads and bodies taken apart: the same whatever the pieces they come in, and bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpkg.runtime.bodies import OVERHEAD_LIMIT, ChunkedBody, SizedBody
from mlpkg.runtime.heads import FIELD_LIMIT, HEAD_LIMIT, head_end, parse_head
from mlpkg.runtime.message import HttpRequest, Refusal

REST = b"GET / HTTP/1.1\r\n"
EXTENSION = st.from_regex(rb"\A(;[ -~]{0,20})?\Z")
TRAILER = st.from_regex(rb"\A([A-Za-z-]{1,9}:[ -~]{0,20}\r\n)?\Z")


def read(body: SizedBody | ChunkedBody, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What the body holds, and what is left of the pieces, read as a connection does."""
    found: list[bytes] = []
    unread = b""
    for piece in pieces:
        unread += piece
        if not body.is_whole:
            unread = unread[body.read(unread, 0, found.append) :]
    return b"".join(found), unread


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSION), max_size=6),
    last=EXTENSION,
    trailers=st.lists(TRAILER, max_size=3),
    places=st.lists(st.integers(0, 1000), max_size=12),
)
def test_chunks(
    chunks: list[tuple[bytes, bytes]], last: bytes, trailers: list[bytes], places: list[int]
) -> None:
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk, extension in chunks)
    data += b"0" + last + b"\r\n" + b"".join(trailers) + b"\r\n" + REST
    body = ChunkedBody(10_000)
    assert read(body, cut(data, places)) == (b"".join(chunk for chunk, _ in chunks), REST)
    assert body.is_whole


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 1000), max_size=6))
def test_any_bytes_are_a_body_refused_or_incomplete(data: bytes, places: list[int]) -> None:
    """And which of them does not depend on how they are cut."""
    assert outcome(lambda: read(ChunkedBody(100), [data])) == outcome(
        lambda: read(ChunkedBody(100), cut(data, places))
    )


def outcome(call: Callable[[], tuple[bytes, bytes]]) -> object:
    try:
        return call()
    except Refusal as refusal:
        return refusal.status


@given(data=st.binary(max_size=50), places=st.lists(st.integers(0, 1000), max_size=6))
def test_length(data: bytes, places: list[int]) -> None:
    assert read(SizedBody(len(data)), cut(data + REST, places)) == (data, REST)


@pytest.mark.parametrize(
    "data",
    [
        b"1;" + b"a" * 5_000,
        b"1;" + b"a" * OVERHEAD_LIMIT + b"\r\n",
        b"".join(b"1;%b\r\na\r\n" % (b"a" * 1000) for _ in range(20)),
        b"0\r\n" + b"a:b\r\n" * OVERHEAD_LIMIT,
        b"0\r\nX: " + b"a" * 5_000,
    ],
)
def test_what_is_dropped_is_bounded(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read(ChunkedBody(1_000_000), cut(data, list(range(0, len(data), 700))))
    assert caught.value.status == 431


def test_a_chunk_beyond_the_limit_is_refused_by_its_size() -> None:
    with pytest.raises(Refusal) as caught:
        read(ChunkedBody(10), [b"b\r\n"])
    assert caught.value.status == 413


def test_small_pieces_of_a_body_are_put_together() -> None:
    request = HttpRequest()
    for number in range(200_000):
        request.add(b"%02d" % (number % 100))
    assert len(request.parts) < 10
    request.complete()
    assert request.body == b"".join(b"%02d" % (number % 100) for number in range(200_000))


def test_heads_are_bounded_as_they_come() -> None:
    head = b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT
    assert head_end(head[:HEAD_LIMIT], 0, 0) == 0
    with pytest.raises(Refusal) as caught:
        head_end(head, 0, HEAD_LIMIT)
    assert caught.value.status == 431
    with pytest.raises(Refusal) as caught:
        parse_head(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * FIELD_LIMIT + b"\r\n")
    assert caught.value.status == 431
    parse_head(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * (FIELD_LIMIT - 1) + b"\r\n")


@pytest.mark.parametrize(
    ("fields", "version", "stays"),
    [
        (b"", "1.1", True),
        (b"Connection: close\r\n", "1.1", False),
        (b"Connection: Upgrade, Close\r\nUpgrade: h2c\r\n", "1.1", False),
        (b"Connection: upgrade\r\nUpgrade: websocket\r\n", "1.1", True),
        (b"", "1.0", False),
        (b"Connection: Keep-Alive\r\n", "1.0", True),
    ],
)
def test_whether_a_connection_stays(fields: bytes, version: str, *, stays: bool) -> None:
    head = b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version.encode(), fields)
    assert parse_head(head).keep_alive is stays


@pytest.mark.parametrize(
    "host", [b"", b"a", b"a.b:80", b"[::1]:80", b"[fe80::1%25eth0]", b"%41", b"xn--a.example"]
)
def test_hosts(host: bytes) -> None:
    assert parse_head(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host).merged["host"] == host.decode()
