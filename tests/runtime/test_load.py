"""Ten thousand requests of all kinds at once: no worker is lost for good, no request stays unanswered."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from .serving import Launch, Reply, Running, serving

REQUESTS = 10_000
CLIENTS = 8
SCRIPT = """
import json, os, time
def init(): pass
def run(data):
    value = json.loads(data)
    what = value.get("what")
    if what == "raise": raise ValueError("x")
    if what == "exit": raise SystemExit(1)
    if what == "die": os._exit(9)
    if what == "sleep": time.sleep(30)
    if what == "stubborn":
        while True:
            try: time.sleep(30)
            except TimeoutError: pass
    if what == "set": return {1}
    return {"twice": value["number"] * 2}
"""
GOOD = "good"
JSON_FAULTS = {"raise": 500, "exit": 500, "set": 500}
RARE = ("die", "sleep", "die", "sleep", "stubborn")
"""Each of these costs a worker's restart, or the scoring timeout."""


def expected_good(number: int, reply: Reply) -> bool:
    return reply.status == 200 and json.loads(reply.body) == {"twice": number * 2}


def one(server: Running, kind: str, number: int) -> bool:
    """Send one request of a kind; return whether it was answered as the contract says."""
    if kind == GOOD:
        body = json.dumps({"number": number, "pad": "x" * (number % 2000)}).encode()
        return expected_good(
            number, server.ask(body=body, headers=[("x-request-id", f"r{number}")], timeout=60)
        )
    if kind in JSON_FAULTS or kind in RARE:
        reply = server.ask(body=json.dumps({"what": kind}).encode(), timeout=60)
        return reply.status == 500 and set(json.loads(reply.body)) == {"message"}
    if kind == "malformed":
        return server.ask(body=b"{").status == 500
    if kind == "bytes":
        return server.ask(body=b"\xff").status == 400
    if kind == "large":
        return server.ask(body=b"x" * 20_001).status == 413
    if kind == "id":
        return server.ask(body=b"{}", headers=[("x-request-id", "i" * 101)]).status == 431
    if kind == "probe":
        return server.ask("GET", "/livez").status == 200
    if kind == "route":
        return server.ask("PUT", "/score").status == 405
    return raw(server, kind)


def raw(server: Running, kind: str) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        if kind == "garbage":
            client.sendall(b"\x00\x01garbage\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 400 ")
        if kind == "headers":
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 431 ")
        if kind == "slow":
            client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n")
            for byte in b'{"number": 1}':
                client.sendall(bytes([byte]))
                time.sleep(0.002)
            return client.recv(100).startswith(b"HTTP/1.1 200 ")
        if kind == "leave":
            client.sendall(b'POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"number": 1}')
            return True
        assert kind == "half"
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Le")
        return True


def plan() -> list[str]:
    source = random.Random(20260701)
    common = [
        *JSON_FAULTS,
        "malformed",
        "bytes",
        "large",
        "id",
        "probe",
        "route",
        "garbage",
        "headers",
        "leave",
        "half",
    ]
    kinds = [source.choice(common) if source.random() < 0.35 else GOOD for _ in range(REQUESTS)]
    for kind in ("slow",) * 40 + RARE * 3:
        kinds[source.randrange(REQUESTS)] = kind
    return kinds


@pytest.mark.long
def test_mixed_faults(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(SCRIPT)
    environ = {
        "MLPKG_MAX_BODY": "20000",
        "MLPKG_MAX_QUEUE": "1000",
        "MLPKG_ACCESS_LOG": "false",
        "SCORING_TIMEOUT_MS": "400",
    }
    kinds = plan()
    wrong: Counter[str] = Counter()
    with serving(replace(launch, environment=environ), "ours", "score.py", ["--workers", "2"]) as server:

        def client(first: int) -> None:
            for number in range(first, REQUESTS, CLIENTS):
                try:
                    if not one(server, kinds[number], number):
                        wrong[kinds[number]] += 1
                except (OSError, http.client.HTTPException) as error:
                    wrong[f"{kinds[number]}: {error!r}"] += 1

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
        assert wrong == {}
        end = time.monotonic() + 20
        while b"\nmlpkg_workers_ready 2\n" not in server.ask("GET", "/metrics").body:
            assert time.monotonic() < end
            time.sleep(0.05)
        metrics = server.ask("GET", "/metrics").body
        assert b"\nmlpkg_in_flight 0\n" in metrics
        assert b"\nmlpkg_queue_length 0\n" in metrics
        assert b"\nmlpkg_body_bytes 0\n" in metrics
        assert server.stop() == 0
