"""The command line's grammar: verbs, their arguments and options, and which values these take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from mlpkg import __version__
from mlpkg.errors import UsageError

Command = Callable[[argparse.Namespace], int]
"""What a verb runs: takes its options, gives the exit code."""


class Parser(argparse.ArgumentParser):
    """Tells wrong usage as every other mistake is told, so that `--json` has its document for it too."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the usage as its hint."""
        raise UsageError(message, hint=" ".join(self.format_usage().split()))


Verb = Callable[[str, str, str], Parser]
"""Adds a verb: its name, what it does, an example."""

LONGEST = 86_400.0
"""Seconds that an answer may be waited for."""


def make_parser(commands: Mapping[str, Command]) -> Parser:
    """All verbs and their options. A parsed line has the verb's own command as `run`."""
    top = Parser(prog="mlpkg", description="make for model images")
    top.add_argument("--version", action="version", version=f"mlpkg {__version__}")
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document on stdout, for machines")
    common.add_argument(
        "-q", "--quiet", action="store_true", help="no progress and no notices: results and errors only"
    )
    common.add_argument(
        "--workspace", type=Path, metavar="DIR", help="the workspace (default: found from here upwards)"
    )
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, text: str, example: str) -> Parser:
        added = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
            parents=[common],
        )
        added.set_defaults(run=commands[name])
        return added

    _package_verbs(verb)
    _service_verbs(verb)
    registry = verb("registry", "the bundled registry's life", "mlpkg registry status")
    registry.add_argument(
        "action",
        choices=("up", "down", "status", "credentials", "login", "gc", "verify", "repair"),
        help="start it, stop it, look at it; print its credentials, or give them to Docker; remove what no image "
        "needs; read all it holds and name what is damaged, or also remove that",
    )
    schema = verb("schema", "print the JSON Schema of package.toml", "mlpkg schema > package.schema.json")
    schema.add_argument(
        "--write", type=Path, metavar="DIR", help="write all schemas and reference pages there"
    )
    schema.add_argument(
        "--of", choices=("package", "workspace"), default="package", help="which file's schema"
    )
    return top


def _package_verbs(verb: Verb) -> None:
    lock = verb("lock", "choose Debian packages and wheels, by hash", "mlpkg lock --upgrade diabetes")
    lock.add_argument(
        "--upgrade", action="store_true", help="move to the newest that fits, where nothing asks for it"
    )
    plan = verb(
        "plan",
        "print what would be built and which steps would run, and why",
        "mlpkg plan --json diabetes",
    )
    build = verb("build", "lock, render and build", "mlpkg build diabetes")
    push = verb("push", "lock, render, build, tag and push", "mlpkg push")
    push.add_argument(
        "--check",
        action="store_true",
        help="ask the registry first whether it still has what was pushed; what it lacks is pushed again",
    )
    for command in (lock, plan, build, push):
        command.add_argument(
            "packages", nargs="*", metavar="PACKAGE", help="names of packages (default: all)"
        )
    for command in (lock, build, push):
        command.add_argument(
            "-n", "--jobs", type=_whole(1), metavar="N", help="packages at work at once (default: one)"
        )


def _service_verbs(verb: Verb) -> None:
    run = verb("run", "push what is not pushed, then run the image", "mlpkg run diabetes --port 6789")
    serve = verb(
        "serve", "serve an entry script without a container", "mlpkg serve score.py --model-dir model"
    )
    serve.add_argument(
        "package", metavar="PACKAGE|SCRIPT", help="a package's name, or any entry script (.py)"
    )
    serve.add_argument("--model-dir", metavar="DIR", help="with a script: becomes AZUREML_MODEL_DIR")
    for command in (run, serve):
        command.add_argument(
            "-p",
            "--port",
            type=_whole(1, 65535),
            help="port on 127.0.0.1 (default: 6789, or the next free one)",
        )
    score = verb("score", "send a request to the running service", "mlpkg score diabetes sample.json")
    logs = verb("logs", "print the running service's log", "mlpkg logs -f diabetes")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    stop = verb("stop", "stop the running service", "mlpkg stop diabetes")
    for command in (run, score, logs, stop):
        command.add_argument("package", metavar="PACKAGE", help="name of a package")
    score.add_argument("request", type=Path, help="file with the JSON request; - for standard input")
    score.add_argument(
        "--timeout", type=_seconds, default=60.0, help="seconds to wait for the answer (default: 60)"
    )


def _whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """For argparse: a whole number within bounds."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and lowest <= int(text) <= (highest or int(text)):
            return int(text)
        bounds = f"from {lowest} to {highest}" if highest else f"of at least {lowest}"
        raise argparse.ArgumentTypeError(f"not a whole number {bounds}: {text!r}")

    return parse


def _seconds(text: str) -> float:
    """For argparse: a time to wait."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0 (and at most a day): {text!r}")
    return value
