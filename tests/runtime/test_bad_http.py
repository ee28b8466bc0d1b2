"""Clients that are broken, slow, greedy or gone: each gets its answer, and the next request gets its own."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .serving import Launch, Running, serving

SCRIPT = """
import time
def init(): pass
def run(data):
    if data.startswith("sleep"):
        time.sleep(float(data[6:]))
    return data
"""
GOOD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ngood"


@pytest.fixture(scope="module")
def server(runtime_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "score.py").write_text(SCRIPT)
    environ = {"MLPKG_READ_TIMEOUT": "1", "MLPKG_MAX_BODY": "100000", "MLPKG_MAX_CONNECTIONS": "20"}
    with serving(Launch(Path(sys.executable), runtime_root, folder, environ), "ours", "score.py") as running:
        yield running


@pytest.fixture(autouse=True)
def _serves_on(server: Running) -> Iterator[None]:
    """Whatever a test does, the next request is answered, and nothing of the last stays behind."""
    yield
    assert server.ask(body=b"next").body == b'"next"'
    end = time.monotonic() + 10
    while True:
        text = server.ask("GET", "/metrics").body.decode()
        if "\nmlpkg_connections 1\n" in text and "\nmlpkg_body_bytes 0\n" in text:
            return
        assert time.monotonic() < end, text
        time.sleep(0.05)


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=15)


def talk(server: Running, *pieces: bytes, pause: float = 0.0, ends: bool = False) -> bytes:
    """Send pieces; return all that comes back until the server closes."""
    with connect(server) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)
        if ends:
            client.shutdown(socket.SHUT_WR)
        return everything(client)


def everything(client: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            400,
        ),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n", 413),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 300 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, 431),
        (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408),
        (b"POST /score HTTP/1.1\r\nHos", 408),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_refused(server: Running, request_bytes: bytes, expected: int) -> None:
    answer = talk(server, request_bytes)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert set(json.loads(body)) == {"message"}


def test_chunked_body_beyond_the_limit(server: Running) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    assert status(talk(server, head, *[chunk] * 8)) == 413


def test_large_body_beyond_the_limit_sees_its_answer(server: Running) -> None:
    """The whole body is on its way before the client reads: it must not be cut off by a reset."""
    body = b"x" * 8_000_000
    answer = talk(
        server, b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n", body, ends=True
    )
    assert status(answer) == 413


def test_chunked_body(server: Running) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert talk(server, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", pause=0.05).endswith(b'"abcde"')


def test_request_in_single_bytes(server: Running) -> None:
    request = GOOD.replace(b"Host: x", b"Host: x\r\nConnection: close")
    pieces = [request[at : at + 1] for at in range(len(request))]
    assert talk(server, *pieces, pause=0.001).endswith(b'"good"')


def test_expect_continue(server: Running) -> None:
    with connect(server) as client:
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert everything(client).endswith(b'"ok"')


def test_expect_continue_of_a_body_too_large(server: Running) -> None:
    answer = talk(
        server, b"POST /score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n"
    )
    assert status(answer) == 413


def test_http_1_0(server: Running) -> None:
    answer = talk(server, b"POST /score HTTP/1.0\r\nContent-Length: 2\r\n\r\nok")
    assert status(answer) == 200
    assert answer.endswith(b'"ok"')


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    numbers = [b"%04d" % number for number in range(50)]
    requests = b"".join(GOOD.replace(b"good", number) for number in numbers)
    answer = talk(server, requests, ends=True)
    assert [part[:6] for part in answer.split(b"\r\n\r\n")[1:]] == [b'"%b"' % number for number in numbers]


def test_half_closed_client_gets_its_answer(server: Running) -> None:
    request = GOOD.replace(b"Content-Length: 4", b"Content-Length: 9").replace(b"good", b"sleep 0.5")
    assert talk(server, request, ends=True).endswith(b'"sleep 0.5"')


def test_an_offer_to_upgrade_is_declined(server: Running) -> None:
    offer = (
        b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
    )
    chunked = b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n"
    for request in (GOOD, GOOD.partition(b"Content")[0] + chunked):
        answer = talk(server, request.replace(b"Host: x", offer), GOOD, ends=True)
        assert answer.count(b'\r\n\r\n"good"') == 2
    assert talk(server, b"GET / HTTP/1.1\r\n" + offer + b"\r\n\r\n", ends=True).endswith(b"Healthy")


@pytest.mark.parametrize(
    "sent", [GOOD[:10], GOOD[:-2], GOOD, b"", GOOD.replace(b"4", b"9").replace(b"good", b"sleep 0.3")]
)
def test_client_that_leaves(server: Running, sent: bytes) -> None:
    with connect(server) as client:
        client.sendall(sent)


def test_waiting_request_of_a_client_that_left_is_not_run(server: Running) -> None:
    slow = GOOD.replace(b"Content-Length: 4", b"Content-Length: 7").replace(b"good", b"sleep 1")
    with connect(server) as first:
        first.sendall(slow)
        time.sleep(0.2)
        for _ in range(5):
            with connect(server) as other:
                other.sendall(slow)
            time.sleep(0.05)
        started = time.monotonic()
        assert server.ask(body=b"x").status == 200
        assert time.monotonic() - started < 3


def test_idle_connections_make_room(server: Running) -> None:
    """Twenty is the limit here: one that was idle for long is closed for the next."""
    before = evicted(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(20)]
        for client in clients[5:]:
            client.sendall(GOOD)
            assert client.recv(65536).endswith(b'"good"')
        assert server.ask(body=b"x").status == 200
        assert clients[0].recv(1) == b""
        for client in clients[1:]:
            client.sendall(GOOD)
            assert client.recv(65536).endswith(b'"good"')
    assert evicted(server) == before + 1


def evicted(server: Running) -> int:
    text = server.ask("GET", "/metrics").body.decode()
    return int(text.partition("\nmlpkg_connections_evicted_total ")[2].split("\n", 1)[0])


def test_probes_are_answered_when_every_connection_is_busy(server: Running) -> None:
    slow = GOOD.replace(b"Content-Length: 4", b"Content-Length: 7").replace(b"good", b"sleep 1")
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(server)).sendall(slow)
        time.sleep(0.3)
        for _ in range(3):
            probe = server.ask("GET", "/livez")
            assert (probe.status, probe.header("connection")) == (200, "close")
            assert server.ask("GET", "/metrics").status == 200
        refused = server.ask(body=b"x")
        assert (refused.status, refused.header("retry-after")) == (503, "1")


def test_keep_alive(server: Running) -> None:
    with connect(server) as client:
        for _ in range(3):
            client.sendall(GOOD)
            assert client.recv(65536).endswith(b'"good"')


@pytest.mark.long
def test_client_that_does_not_read_a_long_answer(server: Running, runtime_root: Path, tmp_path: Path) -> None:
    """A stream waits for its client, and a client that never reads is dropped; the front's memory stays."""
    (tmp_path / "score.py").write_text(
        "from azureml.contrib.services.aml_request import rawhttp\n"
        "from azureml.contrib.services.aml_response import AMLResponse\n"
        "def init(): pass\n"
        "@rawhttp\n"
        "def run(r):\n"
        "    return AMLResponse((b'x' * 1000000 for _ in range(300)), 200) if r.data == b'long' else r.method\n"
    )
    launch = Launch(Path(sys.executable), runtime_root, tmp_path, {"MLPKG_READ_TIMEOUT": "1"})
    with serving(launch, "ours", "score.py") as streaming, connect(streaming) as client:
        client.sendall(GOOD.replace(b"good", b"long"))
        time.sleep(0.5)
        peak = int((Path("/proc") / str(streaming.process.pid) / "statm").read_text().split()[1]) * 4096
        assert peak < 150_000_000
        assert streaming.ask(body=b"x", timeout=20).body == b'"POST"'
        assert len(everything(client)) < 300_000_000
        reply = replace(streaming).ask(body=b"long", timeout=60)
        assert (len(reply.body), reply.is_cut_off) == (300_000_000, False)


def test_stream_before_a_pipelined_request(runtime_root: Path, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(
        "import time\n"
        "from azureml.contrib.services.aml_request import rawhttp\n"
        "from azureml.contrib.services.aml_response import AMLResponse\n"
        "def init(): pass\n"
        "def pieces():\n"
        "    for number in range(5):\n"
        "        time.sleep(0.05)\n"
        "        yield f'piece {number},'\n"
        "@rawhttp\n"
        "def run(r): return AMLResponse(pieces(), int(r.args.get('status', 200)))\n"
    )
    with serving(Launch(Path(sys.executable), runtime_root, tmp_path), "ours", "score.py") as streaming:
        answer = talk(streaming, GOOD, GOOD.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        chunks = b"".join(b"8\r\npiece %d,\r\n" % number for number in range(5)) + b"0\r\n\r\n"
        assert answer.count(chunks) == 2
        head = streaming.ask("HEAD", "/score")
        assert (head.status, head.body) == (200, b"")
        assert streaming.ask(target="/score?status=204", body=b"").body == b""
        old = talk(streaming, b"POST /score HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        assert old.endswith(b"\r\n\r\npiece 0,piece 1,piece 2,piece 3,piece 4,")


def test_paths_do_not_become_labels(server: Running) -> None:
    for target in (b"/%73wagger.json", b'/"}x', b"//", b"http://a/swagger.json"):
        talk(server, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = server.ask("GET", "/metrics").body.decode()
    routes = {part.split('"')[1] for part in text.split("{")[1:] if part.startswith("route=")}
    assert routes <= {"/", "/score", "/swagger.json", "/livez", "/readyz", "other", "refused"}
