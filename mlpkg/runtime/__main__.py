"""`python -m mlpkg.runtime [SCRIPT.py]`: the scoring server, in the image by environment, on a desk by arguments."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH109

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):
    # The working directory holds the user's files; one called like a module of the standard library
    # must not take its place in the server.
    del sys.path[0]

import argparse
import signal
import time
from collections.abc import Sequence
from types import FrameType

from mlpkg.runtime import process, settings

BOOT_FAILURE = 3


def main(argv: Sequence[str]) -> int:
    """Serve until stopped. Exit codes: 0 stopped, 2 wrong usage, 3 the settings, the script or the port are unusable."""
    started = time.monotonic()
    options = _parser().parse_args(argv)
    os.environ.update(_variables(options))
    try:
        config = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        print(f"mlpkg.runtime: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return BOOT_FAILURE
    # As process 1 of a container we would otherwise be deaf to it until the loop listens.
    signal.signal(signal.SIGTERM, _leave)
    os.environ["SERVER_PORT"] = str(config.port)
    # The worker's imports are most of the start-up: they begin before the front's own.
    try:
        children = [process.spawn(os.environ) for _ in range(config.workers)]
    except OSError as error:
        print(f"mlpkg.runtime: a worker cannot be started: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return BOOT_FAILURE
    import asyncio  # noqa: PLC0415

    from mlpkg.runtime import logs, server  # noqa: PLC0415

    try:
        has_logging = logs.configure(config.log_format, *config.logging_folders)
    except ValueError:
        has_logging = logs.configure(
            config.log_format
        )  # the worker, whose log it is meant for, says what is wrong

    async def serve() -> int:
        return await server.Server(config, has_logging=has_logging, started=started).run(children)

    try:
        return asyncio.run(serve())
    except server.ListenError as error:
        logs.LOGGER.error("%s", error)
        return BOOT_FAILURE


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlpkg.runtime",
        description="Serve an entry script (init and run) over HTTP. Without a script: as the environment says.",
    )
    parser.add_argument("script", nargs="?", help="the entry script")
    parser.add_argument("--model-dir", help="AZUREML_MODEL_DIR of the script")
    parser.add_argument("--host", help="address to listen on (with a script: 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (5001)")
    parser.add_argument("--workers", help="worker processes (1)")
    parser.add_argument("--timeout", type=float, help="seconds that one call of run may take")
    parser.add_argument("--cors", help="origins that browsers may call from, comma separated")
    parser.add_argument("--log-format", choices=("azure", "json"))
    return parser


def _variables(options: argparse.Namespace) -> dict[str, str]:
    """The environment variables that the arguments stand for; they win over those that are set."""
    given = {
        "AZUREML_MODEL_DIR": options.model_dir,
        "MLPKG_HOST": options.host,
        "MLPKG_PORT": options.port,
        "WORKER_COUNT": options.workers,
        "SCORING_TIMEOUT_MS": None if options.timeout is None else str(round(options.timeout * 1000)),
        "AML_CORS_ORIGINS": options.cors,
        "MLPKG_LOG_FORMAT": options.log_format,
    }
    if options.script:
        given["AZUREML_ENTRY_SCRIPT"] = os.path.realpath(options.script)
        given["AML_APP_ROOT"] = os.environ.get("AML_APP_ROOT") or os.getcwd()
        given["MLPKG_HOST"] = options.host or os.environ.get("MLPKG_HOST") or "127.0.0.1"
    return {name: value for name, value in given.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
