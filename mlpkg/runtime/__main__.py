"""`python -m mlpkg.runtime [SCRIPT.py]`: the scoring server, in the image by environment, on a desk by arguments."""

# Importing pathlib would be a tenth of the start-up.
# ruff: noqa: PTH109, PTH113

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):
    # The working directory holds the user's files; one called like a module of the standard library
    # must not take its place in the server.
    del sys.path[0]

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback, until `main` knows better

import argparse
import time
from collections.abc import Sequence
from types import FrameType

from mlpkg.runtime import process, settings

BOOT_FAILURE, INTERRUPTED = 3, 130
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str]) -> int:
    """Serve until stopped.

    Exit codes: 0 stopped, 2 wrong usage, 3 the settings, the script or the port are unusable, 130 interrupted.
    """
    started = time.monotonic()
    # Until the loop listens to them: as process 1 of a container we would be deaf to SIGTERM.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    parser = _parser()
    options = parser.parse_args(argv)
    if options.script and not os.path.isfile(options.script):
        parser.error(f"{options.script}: no such file")
    os.environ.update(_variables(options))
    try:
        config = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        print(f"mlpkg.runtime: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return BOOT_FAILURE
    os.environ["SERVER_PORT"] = str(config.port)
    # The worker's imports are most of the start-up: they begin before the front's own.
    try:
        children = [process.spawn(os.environ) for _ in range(config.workers)]
    except OSError as error:
        print(f"mlpkg.runtime: a worker cannot be started: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return BOOT_FAILURE
    try:
        import asyncio  # noqa: PLC0415

        from mlpkg.runtime import logs, server  # noqa: PLC0415

        has_logging = _introduce(config)
        # From here to the first wait of `serve`, where the loop listens to them, signals wait; so they do at the end.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    except SystemExit:
        for child in children:
            child.kill()
        raise

    async def serve() -> int:
        asyncio.get_running_loop().call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, _STOPPING)
        try:
            return await server.Server(config, has_logging=has_logging, started=started).run(children)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)

    try:
        return asyncio.run(serve())
    except server.ListenError as error:
        logs.LOGGER.error("%s", error)
        return BOOT_FAILURE


def _introduce(config: settings.Settings) -> bool:
    """Set up the log and say what is served; return whether the user's logging.json is in force."""
    from mlpkg.runtime import azureml, banner, logs  # noqa: PLC0415

    azureml.install()
    try:
        has_logging = logs.configure(config.log_format, *config.logging_folders)
    except ValueError:
        # The worker, whose log it is meant for, says what is wrong.
        has_logging = logs.configure(config.log_format)
    if config.log_format == "json":
        logs.LOGGER.info("Server Settings: %s", "; ".join(": ".join(line) for line in banner.lines(config)))
    else:
        print(banner.text(config), end="", flush=True)  # noqa: T201 - Azure's server prints it too
    return has_logging


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(INTERRUPTED if number == signal.SIGINT else 0)


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
    parser.add_argument("--timeout", type=settings.seconds, help="seconds that one call of run may take")
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
