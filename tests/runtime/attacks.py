"""What hostile clients send: each attack works against any scoring server on loopback.

An attack raises AssertionError with what went wrong.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable

from .hostile import (
    CHUNKED,
    HEAD,
    PATIENCE,
    PROBE,
    Target,
    forever,
    held,
    must_be_refused,
    pour,
    probe,
    received,
    request,
    slowly,
    statuses,
    wait_until_closed,
)

# -- smuggling: requests that two servers could read as different ones (RFC 9112, 11.2) -------------------

BAD: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", (400,)),
    "two Hosts": (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", (400,)),
    "two equal Hosts": (b"GET /livez HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", (400,)),
    "two Hosts in HTTP/1.0": (b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", (400,)),
    "Host that is none": (b"GET /livez HTTP/1.1\r\nHost: x/y@z \x80\r\n\r\n", (400,)),
    "Transfer-Encoding in HTTP/1.0": (
        b"POST /score HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400,),
    ),
    "gzip, chunked": (
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "gzip": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n", (400, 501)),
    "identity": (HEAD + b"Transfer-Encoding: identity\r\n\r\n1\r\na\r\n0\r\n\r\n", (400, 501)),
    "xchunked": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n", (400, 501)),
    "chunked, identity": (
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "chunked twice": (
        HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "chunked in two fields": (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "gzip and chunked in two fields": (
        HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "empty Transfer-Encoding": (HEAD + b"Transfer-Encoding:\r\n\r\n1\r\na\r\n0\r\n\r\n", (400, 501)),
    "vertical tab before chunked": (
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400, 501),
    ),
    "space before the colon": (
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400,),
    ),
    "length, then chunked": (
        HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        (400,),
    ),
    "chunked, then length": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
        (400,),
    ),
    "differing lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", (400,)),
    "differing lengths in one field": (HEAD + b"Content-Length: 1, 2\r\n\r\nab", (400,)),
    "length with a sign": (HEAD + b"Content-Length: +1\r\n\r\na", (400,)),
    "length below nought": (HEAD + b"Content-Length: -1\r\n\r\na", (400,)),
    "length with an underscore": (HEAD + b"Content-Length: 1_0\r\n\r\naaaaaaaaaa", (400,)),
    "length in hexadecimal": (HEAD + b"Content-Length: 0x1\r\n\r\na", (400,)),
    "empty length": (HEAD + b"Content-Length:\r\n\r\n", (400,)),
    "length beyond 64 bits": (HEAD + b"Content-Length: 18446744073709551617\r\n\r\na", (400, 413)),
    "obs-fold": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", (400,)),
    "obs-fold with a tab": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n", (400,)),
    "obs-fold of an empty value": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX:\r\n b\r\n\r\n", (400,)),
    "obs-fold of Transfer-Encoding": (
        HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (400,),
    ),
    "space before the first field": (b"GET /livez HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n", (400,)),
    "bare line feed": (b"GET /livez HTTP/1.1\nHost: x\n\n", (400,)),
    "bare line feed in a field": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\nY: b\r\n\r\n", (400,)),
    "bare carriage return": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\rY: b\r\n\r\n", (400,)),
    "control character": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n", (400,)),
    "field without a name": (b"GET /livez HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n", (400,)),
    "field name with a space": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX Y: a\r\n\r\n", (400,)),
    "target with a space": (b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    "lower-case version": (b"GET /livez http/1.1\r\nHost: x\r\n\r\n", (400,)),
    "chunk size that is none": (CHUNKED + b"zz\r\n", (400,)),
    "chunk size 0x1": (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", (400,)),
    "chunk size with a sign": (CHUNKED + b"+1\r\na\r\n0\r\n\r\n", (400,)),
    "chunk size with an underscore": (CHUNKED + b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n", (400,)),
    "chunk size below nought": (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", (400,)),
    "chunk size after a space": (CHUNKED + b" 1\r\na\r\n0\r\n\r\n", (400,)),
    "chunk size before a space": (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", (400,)),
    "empty chunk size": (CHUNKED + b"\r\na\r\n0\r\n\r\n", (400,)),
    "chunk size beyond 64 bits": (CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n", (400, 413)),
    "chunk size of a thousand zeros": (CHUNKED + b"0" * 1000 + b"1\r\na\r\n0\r\n\r\n", (400, 413)),
    "chunk longer than its size": (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", (400,)),
    "bare line feed after a chunk's size": (CHUNKED + b"1\na\r\n0\r\n\r\n", (400,)),
    "bare line feed after a chunk": (CHUNKED + b"1\r\na\n0\r\n\r\n", (400,)),
    "bare line feed in an extension": (CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n", (400,)),
    "trailer that is no field": (CHUNKED + b"1\r\na\r\n0\r\nno field\r\n\r\n", (400,)),
    "bare line feed in a trailer": (CHUNKED + b"1\r\na\r\n0\r\nX: a\n\n", (400,)),
}
"""What is refused: bytes, and the statuses that say so."""


def smuggling(target: Target, name: str) -> None:
    """The request is refused, the connection ends, and what stands behind it is not read as a request."""
    data, expected = BAD[name]
    with target.connect() as client:
        pour(client, [data + PROBE])
        answer, is_closed = received(client)
    found = statuses(answer)
    assert len(found) == 1, f"answers: {found}"
    assert found[0] in expected, f"status {found[0]}"
    assert is_closed, "the connection stays open"


def trailers_are_no_fields(target: Target) -> None:
    """What stands in a trailer does not reach the script, nor the next request of the connection."""
    trailer = b"X-User: admin\r\nx-request-id: forged\r\nHost: y\r\n"
    with target.connect() as client:
        client.sendall(
            CHUNKED + b"2\r\nhi\r\n0\r\n" + trailer + b"\r\n" + request(b"end", b"Connection: close\r\n")
        )
        answer, _ = received(client)
    assert statuses(answer) == [200, 200], answer
    assert b"admin" not in answer.lower(), "a trailer is merged into the request's fields"
    assert b"forged" not in answer.lower(), "a trailer is merged into the request's fields"


# -- too much ------------------------------------------------------------------------------------------

Attack = Callable[[Target, int], None]
"""An attack, and its size: 1 in the short run."""


def a_megabyte_of_trailers(target: Target, size: int) -> None:
    with target.connect() as client:
        pour(client, [CHUNKED, b"1\r\na\r\n0\r\n", *[b"a:b\r\n" * 2_000] * (100 * size), b"\r\n"])
        received(client, 20)


def trailer_in_pieces(target: Target, size: int) -> None:
    with target.connect() as client:
        pour(client, [CHUNKED, b"1\r\na\r\n0\r\nX: "])
        pour(client, (b"a" * 1000 for _ in range(1_000 * size)))
        must_be_refused(client)


def extension_without_end(target: Target, size: int) -> None:
    with target.connect() as client:
        pour(client, [CHUNKED, b"1;x="])
        pour(client, (b"a" * 10_000 for _ in range(1_000 * size)))
        must_be_refused(client)


def extensions_on_every_chunk(target: Target, size: int) -> None:
    chunk = b"1;x=" + b"a" * 1000 + b"\r\na\r\n"
    with target.connect() as client:
        pour(client, [CHUNKED])
        pour(client, (chunk * 10 for _ in range(1_000 * size)))
        must_be_refused(client)


def small_chunks(target: Target, size: int) -> None:
    """A body within the limit, in chunks of two bytes: 35 bytes for each are kept where pieces are kept."""
    with target.connect(30) as client:
        number = 200_000
        client.sendall(CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        for _ in range(0, number, 1000):
            client.sendall(b"2\r\nab\r\n" * 1000)
        del size
        client.sendall(b"0\r\n\r\n")
        answer, _ = received(client, 20)
    assert statuses(answer) in ([200], [413], [400]), answer[:100]


def head_without_end(target: Target, size: int) -> None:
    kinds = (
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"a:b\r\n" * 2000),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 10_000),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"a" * 10_000),
        (b"GET /", b"a" * 10_000),
        (b"G", b"E" * 10_000),
    )
    for begin, piece in kinds:
        with target.connect() as client:
            pour(client, [begin])
            pour(client, (piece for _ in range(500 * size)))
            must_be_refused(client)


def empty_lines_without_end(target: Target, size: int) -> None:
    with target.connect() as client:
        pour(client, (b"\r\n" * 5_000 for _ in range(1_000 * size)))


def heads_in_single_bytes(target: Target, size: int) -> None:
    """Heads within the limits, a byte at a time."""
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 8_000 * size + b"\r\n\r\n"
    with target.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pour(client, (head[at : at + 1] for at in range(len(head))))


def large_heads_that_wait(target: Target, size: int) -> None:
    data = b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000
    with held(target, 200 * size, data):
        time.sleep(0.5)


def lengths_without_bodies(target: Target, size: int) -> None:
    with held(target, 200 * size, HEAD + b"Content-Length: 1000000\r\n\r\na"):
        time.sleep(0.5)


def refused_client_that_goes_on(target: Target, size: int) -> None:
    """What follows a refusal is dropped, and not for ever."""
    with target.connect() as client:
        pour(client, [b"BAD\r\n\r\n"])
        started = time.monotonic()
        pour(client, slowly(b"a" * 10_000, 20_000 * size))
        assert time.monotonic() - started < PATIENCE * size


TOO_MUCH: dict[str, tuple[Attack, float, float]] = {
    "a megabyte of trailers": (a_megabyte_of_trailers, 1.0, 30),
    "a trailer in pieces": (trailer_in_pieces, 1.0, 30),
    "a chunk extension without end": (extension_without_end, 1.0, 30),
    "extensions on every chunk": (extensions_on_every_chunk, 1.0, 30),
    "small chunks": (small_chunks, 3.0, 30),
    "heads without end": (head_without_end, 2.0, 30),
    "empty lines without end": (empty_lines_without_end, 3.0, 30),
    "heads in single bytes": (heads_in_single_bytes, 3.0, 30),
    "large heads that wait": (large_heads_that_wait, 2.0, 60),
    "lengths without bodies": (lengths_without_bodies, 2.0, 60),
    "a refused client that goes on": (refused_client_that_goes_on, 3.0, 30),
}
"""Attack, seconds of processor and MB of memory that it may cost (per size)."""


# -- too slow ------------------------------------------------------------------------------------------

SLOW: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "empty lines": (b"", b"\r\n"),
    "method": (b"", b"G"),
    "target": (b"GET /", b"a"),
    "field": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
    "fields": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"a:b\r\n"),
    "body": (HEAD + b"Content-Length: 900000\r\n\r\n", b"a"),
    "chunked body": (CHUNKED, b"1\r\na\r\n"),
    "one chunk": (CHUNKED + b"fffff\r\n", b"a"),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"1;", b"a"),
    "trailer": (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a"),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"a:b\r\n"),
}
"""What is sent first, and then again and again, for ever."""


def slow(target: Target, each: int, leaving_out: Iterable[str] = ()) -> None:
    """Whatever trickles in for ever is ended, also when many do it."""
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, (begin, piece) in SLOW.items():
            for number in range(0 if name in leaving_out else each):
                client = stack.enter_context(target.connect())
                pour(client, [begin])
                clients[f"{name} {number}"] = (client, forever(piece))
        stay = wait_until_closed(clients, 0.2)
    assert not stay, f"never ended: {sorted({name.rpartition(' ')[0] for name in stay})}"


# -- too many ------------------------------------------------------------------------------------------

SILENT: dict[str, bytes] = {
    "silent": b"",
    "idle after an answer": PROBE,
    "within a head": b"POST /score HTTP/1.1\r\nHos",
    "within a body": HEAD + b"Content-Length: 10\r\n\r\nabc",
    "within a chunk": CHUNKED + b"a\r\nabc",
    "refused": b"BAD\r\n\r\n",
}
"""What connections have sent that then keep silent."""


def crowd(target: Target, name: str, number: int) -> None:
    """So many silent connections neither keep probes from their answer nor scoring requests."""
    with held(target, number, SILENT[name]):
        for _ in range(20):
            status = probe(target)
            assert status == "200", f"probe: {status}"
        for _ in range(5):
            status = probe(target, request(b"1"))
            assert status == "200", f"scoring request: {status}"


def flood(target: Target, number: int) -> None:
    """Connections that come and go as fast as they can."""
    for _ in range(number):
        with contextlib.suppress(OSError):
            target.connect().close()
    status = probe(target)
    assert status == "200", f"probe: {status}"


# -- pipelining ----------------------------------------------------------------------------------------


def pipelined_probes(target: Target, size: int) -> None:
    number = 3_000 * size
    with target.connect() as client:
        sender = threading.Thread(target=pour, args=(client, [PROBE * 1000] * (number // 1000)))
        sender.start()
        found = 0
        client.settimeout(5)
        tail = b""
        with contextlib.suppress(OSError):
            while found < number and (data := client.recv(65536)):
                found += (tail[-14:] + data).count(b"HTTP/1.1 200 OK")
                tail = data
        sender.join()
    assert found == number, f"{found} of {number} answers"


def pipelined_behind_a_score(target: Target, size: int) -> None:
    """What waits behind a scoring request is answered after it, however much it is."""
    del size
    number = 2_000
    last = PROBE.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with target.connect() as client:
        client.sendall(request(b"1") + PROBE * (number - 1) + last)
        answer, _ = received(client)
    assert statuses(answer) == [200] * (number + 1), f"{len(statuses(answer))} of {number + 1} answers"


def pipelined_without_reading(target: Target, size: int) -> None:
    """A client that asks and asks, and never takes an answer, costs no memory."""
    ask = b"GET /swagger.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
    del size  # it ends when the server takes no more, whatever we would send
    with target.connect() as client:
        sent = pour(client, (ask for _ in range(400)))
    assert sent < len(ask) * 300, f"{sent // len(ask)} thousand requests were taken without an answer read"


PIPELINES: dict[str, tuple[Attack, float, float]] = {
    "probes": (pipelined_probes, 3.0, 30),
    "behind a score": (pipelined_behind_a_score, 3.0, 30),
    "without reading": (pipelined_without_reading, 5.0, 40),
}
