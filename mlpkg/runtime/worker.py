"""One worker process: loads the entry script, then answers the front's requests one by one, in its main thread.

The main thread, because Python delivers signals there (the scoring timeout is SIGALRM) and because many
libraries want it. Exit codes: 3 when the script cannot be served (azure-contract §2, Start), 0 when the front is gone.
"""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH110, PTH118

from __future__ import annotations

import contextlib
import faulthandler
import io
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NoReturn

from mlpkg.runtime import azureml, frames, logs, outputs, settings, swagger
from mlpkg.runtime.incoming import Incoming
from mlpkg.runtime.inputs import InputError, UnsupportedMethod
from mlpkg.runtime.logs import LOGGER, SCRIPT_LOGGER
from mlpkg.runtime.script import TREE_LINES, EntryScript, ScriptError, explained, folder_tree, load, readable

BOOT_FAILURE: Final = 3
_COPY_LIMIT: Final = 64 * 1024
"""Bodies up to this size are sent in one piece with their frame's head."""


def main(descriptor: int) -> NoReturn:
    """Serve on the socket with this file descriptor until the front closes it."""
    faulthandler.enable()
    started = time.perf_counter()
    config = settings.from_environment(os.environ)
    try:
        azureml.install()
        if not logs.configure(config.log_format, *config.logging_folders):
            logs.show_all(config.log_format)
        _connect_debugger(config.debug_port)
        script, documents = _boot(config)
    except (ScriptError, ValueError) as error:
        LOGGER.error("%s", error)
        _flush()
        os._exit(BOOT_FAILURE)
    with socket.socket(fileno=descriptor) as channel, contextlib.suppress(OSError):
        # An OSError of the channel means that the front is gone: there is nobody to answer.
        body = json.dumps(documents).encode()
        channel.sendall(frames.reply_frame(frames.READY, f"{time.perf_counter() - started:.6f}", body) + body)
        LOGGER.info("Scoring timeout is set to %d", config.timeout_ms)
        LOGGER.info("Worker with pid %d ready for serving traffic", os.getpid())
        _serve(channel, script, config)
    sys.exit(0)


def _connect_debugger(port: int) -> None:
    if not port:
        return
    LOGGER.warning("Connecting to a debugger at port %d (AZUREML_DEBUG_PORT): not for production", port)
    try:
        import debugpy  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415, T100 - asked for by the user
    except ModuleNotFoundError:
        raise ScriptError(
            "AZUREML_DEBUG_PORT is set, but debugpy is not installed: add it to the requirements"
        ) from None
    debugpy.connect(port)
    debugpy.wait_for_client()  # noqa: T100


def _boot(config: settings.Settings) -> tuple[EntryScript, dict[str, Any]]:
    """Load the script and call init. Raises ScriptError."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [config.entry_script or "main.py"]
    sys.path.append(config.app_root)
    if config.source_directory:
        sys.path.append(os.path.join(config.app_root, config.source_directory))
    logs.redirect_print()
    script = load(config.app_root, config.entry_script, lenient=config.lenient)
    SCRIPT_LOGGER.info("Invoking user's init function")
    try:
        script.init()
    except BaseException as error:  # noqa: BLE001 - init may raise anything, SystemExit too
        message = explained("User's init function failed\nEncountered Exception ", error)
        raise ScriptError("\n".join([message, *_model_tree(config.model_dir)])) from None
    SCRIPT_LOGGER.info("Users's init has completed successfully")
    return script, swagger.documents(config, script.run)


def _model_tree(folder: str) -> list[str]:
    if not folder:
        return ["AZUREML_MODEL_DIR is not set"]
    if not os.path.exists(folder):
        return [f"AZUREML_MODEL_DIR={folder}: there is no such folder"]
    lines = list(itertools.islice(folder_tree(folder), TREE_LINES + 1))
    tail = [f"Output Truncated. First {TREE_LINES} lines shown."] if len(lines) > TREE_LINES else []
    return ["Model Directory Contents:", *lines[:TREE_LINES], *tail]


def _serve(channel: socket.socket, script: EntryScript, config: settings.Settings) -> None:
    received = io.BufferedReader(socket.SocketIO(channel, "r"), 65536)
    while True:
        prefix = received.read(frames.REQUEST.size)
        if len(prefix) < frames.REQUEST.size:
            return
        head_size, body_size = frames.REQUEST.unpack(prefix)
        head = received.read(head_size)
        body = received.read(body_size)
        if len(body) < body_size:
            return
        incoming = Incoming.from_frame(head.decode("latin-1"), body)
        logs.CURRENT.request_id = incoming.request_id
        answer = score(script, incoming, config)
        try:
            _send(channel, answer)
        finally:
            if answer.close is not None:
                _close(answer)
        logs.CURRENT.request_id = ""


def score(script: EntryScript, incoming: Incoming, config: settings.Settings) -> outputs.Answer:
    """One request through `run`, and its answer, whatever happens."""
    try:
        arguments = script.parse(incoming)
        if script.wants_headers:
            arguments["request_headers"] = dict(incoming.headers)
    except InputError as error:
        LOGGER.warning(
            "Answered %d: %s (Content-Type: %r)", error.status, error.message, incoming.content_type or None
        )
        return outputs.error_answer(error.status, error.message, "input")
    except UnsupportedMethod:
        if incoming.method == "OPTIONS":
            headers = (("Content-Type", "text/html; charset=utf-8"), (outputs.FAILED, "False"))
            return outputs.Answer(200, headers, b"")
        return outputs.error_answer(405, "Method not allowed", "input")
    except (ValueError, RecursionError) as error:
        LOGGER.error("Encountered Exception: %s", readable(error))
        return outputs.error_answer(500, outputs.INTERNAL_ERROR, "error")
    return _run(script, arguments, config)


def _run(script: EntryScript, arguments: dict[str, Any], config: settings.Settings) -> outputs.Answer:
    try:
        value, elapsed_ms = _timed(script, arguments, config)
    except TimeoutError as error:
        # A TimeoutError of the script's own (a socket's, say) looks the same to Azure's server.
        LOGGER.error(
            "Encountered Exception: %s\nScoring timeout is %d ms", readable(error), config.timeout_ms
        )
        message = f"Scoring timeout after {config.timeout_ms} ms"
        return outputs.error_answer(500, message, "timeout", failed=True)
    except BaseException as error:  # noqa: BLE001 - a script may raise anything, SystemExit too
        LOGGER.error("Encountered Exception: %s", readable(error))
        return outputs.error_answer(500, outputs.SCRIPT_ERROR, "error", failed=True)
    try:
        return outputs.to_answer(value, elapsed_ms, lenient=config.lenient)
    except Exception as error:  # noqa: BLE001 - a response object of the script's may raise anything
        LOGGER.error("Encountered Exception: %s", readable(error))
        return outputs.error_answer(500, outputs.INTERNAL_ERROR, "unserialisable")


def _timed(script: EntryScript, arguments: dict[str, Any], config: settings.Settings) -> tuple[Any, float]:
    """Call `run` under the scoring timeout; return its value and its milliseconds."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, config.timeout_ms / 1000)
    started = time.perf_counter()
    try:
        value = _in_context(script, arguments) if script.is_raw else script.run(**arguments)
        if config.lenient and hasattr(value, "__await__"):
            import asyncio  # noqa: PLC0415 - only where run is a coroutine function

            value = asyncio.run(_awaited(value))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return value, (time.perf_counter() - started) * 1000


async def _awaited(value: Any) -> Any:
    return await value


def _in_context(script: EntryScript, arguments: dict[str, Any]) -> Any:
    from mlpkg.runtime.request import request_context  # noqa: PLC0415 - few scripts need it

    request = next(value for name, value in arguments.items() if name != "request_headers")
    with request_context(request):
        return script.run(**arguments)


def _alarm(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def _send(channel: socket.socket, answer: outputs.Answer) -> None:
    elapsed = "" if answer.elapsed_ms is None else f"{answer.elapsed_ms:.3f}"
    fields = "\n".join([f"{name}: {value}" for name, value in answer.headers])
    head = f"{answer.status}\n{elapsed}\n{answer.outcome}\n{fields}"
    body = answer.body
    if isinstance(body, bytes):
        if len(body) <= _COPY_LIMIT:
            channel.sendall(frames.reply_frame(frames.ANSWER, head, body) + body)
        elif len(body) <= frames.LARGEST:
            channel.sendall(frames.reply_frame(frames.ANSWER, head, body))
            channel.sendall(body)
        else:
            view = memoryview(body)
            _send_pieces(channel, head, (bytes(view[at : at + 2**24]) for at in range(0, len(body), 2**24)))
        return
    _send_pieces(channel, head, body)


def _send_pieces(channel: socket.socket, head: str, pieces: Iterator[bytes]) -> None:
    channel.sendall(frames.reply_frame(frames.STREAM, head, b""))
    failed = ""
    while True:
        try:
            piece = next(pieces, None)
        except BaseException as error:  # noqa: BLE001 - the script's generator may raise anything
            LOGGER.error("Encountered Exception while the answer was streamed: %s", readable(error))
            failed = "failed"
            break
        if piece is None:
            break
        if piece:
            channel.sendall(frames.reply_frame(frames.CHUNK, "", piece) + piece)
    channel.sendall(frames.reply_frame(frames.END, failed, b""))


def _close(answer: outputs.Answer) -> None:
    try:
        if answer.close is not None:
            answer.close()
    except Exception as error:  # noqa: BLE001 - what the script has asked to be called
        LOGGER.error("Encountered Exception when the answer was closed: %s", readable(error))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
