"""The command line: `mlpkg VERB …`. The only module that prints results; messages go to stderr.

Exit codes: 0 done, 1 a build or push failed, 2 bad spec or usage, 3 a bug, 4 a needed service cannot be
reached, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlpkg import __version__
from mlpkg.errors import MlpkgError, UsageError

INTERRUPTED = 130
BUG = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it ended, as an exit code. The one place where errors become texts."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MlpkgError as error:
        sys.stderr.write(f"error: {error}\n")
        if options.json:
            _print({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was done is kept\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the boundary: anything else is a bug, and says so
        traceback.print_exc()
        sys.stderr.write("this is a bug in mlpkg; please report it with the lines above\n")
        return BUG


def parser() -> argparse.ArgumentParser:
    """All verbs and their options; the CLI reference is generated from it."""
    top = argparse.ArgumentParser(prog="mlpkg", description="make for model images")
    top.add_argument("--version", action="version", version=f"mlpkg {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document on stdout, for machines")
    common.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    common.add_argument(
        "--workspace", type=Path, metavar="DIR", help="the workspace (default: found from here upwards)"
    )
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(
        name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
            parents=[common],
        )
        added.set_defaults(run=run)
        return added

    _package_verbs(verb)
    _service_verbs(verb)
    registry = verb("registry", _registry, "the bundled registry's life", "mlpkg registry status")
    registry.add_argument(
        "action", choices=("up", "down", "status", "credentials", "gc"), help="what to do with it"
    )
    schema = verb(
        "schema", _schema, "print the JSON Schema of package.toml", "mlpkg schema > package.schema.json"
    )
    schema.add_argument(
        "--write", type=Path, metavar="DIR", help="write all schemas and reference pages there"
    )
    schema.add_argument(
        "--of", choices=("package", "workspace"), default="package", help="which file's schema"
    )
    return top


Verb = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]


def _package_verbs(verb: Verb) -> None:
    lock = verb("lock", _lock, "choose Debian packages and wheels, by hash", "mlpkg lock --upgrade diabetes")
    lock.add_argument(
        "--upgrade", action="store_true", help="move to the newest that fits, where nothing asks for it"
    )
    plan = verb(
        "plan",
        _plan,
        "print what would be built and which steps would run, and why",
        "mlpkg plan --json diabetes",
    )
    build = verb("build", _build, "lock, render and build", "mlpkg build diabetes")
    push = verb("push", _push, "lock, render, build, tag and push", "mlpkg push")
    for command in (lock, plan, build, push):
        command.add_argument(
            "packages", nargs="*", metavar="PACKAGE", help="names of packages (default: all)"
        )
    for command in (lock, build, push):
        command.add_argument(
            "-n", "--jobs", type=int, default=0, metavar="N", help="packages at work at once"
        )


def _service_verbs(verb: Verb) -> None:
    run = verb("run", _run, "push what is not pushed, then run the image", "mlpkg run diabetes --port 6789")
    serve = verb(
        "serve", _serve, "serve an entry script without a container", "mlpkg serve score.py --model-dir model"
    )
    serve.add_argument(
        "package", metavar="PACKAGE|SCRIPT", help="a package's name, or any entry script (.py)"
    )
    serve.add_argument("--model-dir", metavar="DIR", help="with a script: becomes AZUREML_MODEL_DIR")
    for command in (run, serve):
        command.add_argument("-p", "--port", type=int, default=6789, help="port on 127.0.0.1 (default: 6789)")
    score = verb("score", _score, "send a request to the running service", "mlpkg score diabetes sample.json")
    logs = verb("logs", _logs, "print the running service's log", "mlpkg logs -f diabetes")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    stop = verb("stop", _stop, "stop the running service", "mlpkg stop diabetes")
    for command in (run, score, logs, stop):
        command.add_argument("package", metavar="PACKAGE", help="name of a package")
    score.add_argument("request", type=Path, help="file with the JSON request; - for standard input")
    score.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the answer")


def _lock(options: argparse.Namespace) -> int:
    return _drive(options, "lock")


def _build(options: argparse.Namespace) -> int:
    return _drive(options, "build")


def _push(options: argparse.Namespace) -> int:
    return _drive(options, "push")


def _drive(options: argparse.Namespace, step: str) -> int:
    from mlpkg.drive import drive  # noqa: PLC0415 - loads doit

    outcome = drive(
        _root(options),
        step,
        tuple(options.packages),
        jobs=options.jobs,
        upgrade=getattr(options, "upgrade", False),
        quiet=options.quiet or options.json,
    )
    if options.json:
        _print({"exit_code": outcome.exit_code, "steps": outcome.reports, "errors": outcome.errors})
    return outcome.exit_code


def _plan(options: argparse.Namespace) -> int:
    from mlpkg import lock, plan, steps  # noqa: PLC0415

    workspace = _workspace(options)
    packages = [workspace.package(name) for name in options.packages] or list(workspace.packages)
    documents = []
    for package in packages:
        reasons = {step: [str(change) for change in steps.why(step, package)] for step in steps.STEPS}
        locked = lock.read_lock(package)
        built = plan.to_json(plan.plan(package.spec, locked, steps.snapshot(package))) if locked else None
        documents.append({"package": package.name, "would_run": reasons, "plan": built})
    if options.json:
        _print(documents)
        return 0
    for document in documents:
        _say(f"{document['package']}")
        for step, changes in document["would_run"].items():
            _say(f"  {step:<7} {'; '.join(changes) if changes else 'up to date'}")
        for layer in (document["plan"] or {}).get("layers", []):
            held = layer.get("contents") or [file["path"] for file in layer.get("files", [])]
            more = f" and {len(held) - 4} more" if len(held) > 4 else ""
            _say(f"    {layer['name']:<24} {', '.join(held[:4])}{more}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from mlpkg.drive import drive  # noqa: PLC0415

    outcome = drive(_root(options), "push", (options.package,), jobs=0, upgrade=False, quiet=True)
    if outcome.exit_code:
        return outcome.exit_code
    from mlpkg import service  # noqa: PLC0415
    from mlpkg.progress import note  # noqa: PLC0415

    package = _workspace(options).package(options.package)
    started = service.start(package, options.port, note)
    if options.json:
        _print({"kind": started.kind, "id": started.reference, "address": started.address})
    else:
        _say(
            f"{package.name}: {started.kind} {started.reference[:12]} answers at {started.address}{package.spec.server.score}"
        )
    return 0


def _serve(options: argparse.Namespace) -> int:
    if options.package.endswith(".py"):
        from mlpkg.runtime.__main__ import main as serve  # noqa: PLC0415

        model = ["--model-dir", options.model_dir] if options.model_dir else []
        return int(serve([options.package, *model, "--port", str(options.port)]))
    from mlpkg import service  # noqa: PLC0415
    from mlpkg.drive import drive  # noqa: PLC0415
    from mlpkg.progress import note  # noqa: PLC0415

    outcome = drive(_root(options), "lock", (options.package,), jobs=0, upgrade=False, quiet=True)
    return outcome.exit_code or service.foreground(
        _workspace(options).package(options.package), options.port, note
    )


def _score(options: argparse.Namespace) -> int:
    from mlpkg import service  # noqa: PLC0415

    try:
        body = sys.stdin.buffer.read() if str(options.request) == "-" else options.request.read_bytes()
    except OSError as error:
        raise UsageError(f"{options.request}: {error.strerror}") from error
    status, answer = service.score(_workspace(options).package(options.package), body, options.timeout)
    text = answer.decode(errors="replace")
    if options.json:
        _print({"status": status, "body": _parsed(text)})
    else:
        _say(text)
    if status >= 400:
        sys.stderr.write(f"error: the service answered {status}; see `mlpkg logs {options.package}`\n")
    return 0 if status < 400 else 1


def _logs(options: argparse.Namespace) -> int:
    from mlpkg import service  # noqa: PLC0415

    for piece in service.logs(_workspace(options).package(options.package), follow=options.follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 0


def _stop(options: argparse.Namespace) -> int:
    from mlpkg import service  # noqa: PLC0415

    stopped = service.stop(_workspace(options).package(options.package))
    if options.json:
        _print({"stopped": stopped})
    elif not options.quiet:
        _say(f"{options.package}: {'stopped' if stopped else 'was not running'}")
    return 0


def _registry(options: argparse.Namespace) -> int:
    from mlpkg import registry  # noqa: PLC0415
    from mlpkg.progress import note  # noqa: PLC0415

    settings = _settings(options)
    if options.action == "up":
        from mlpkg.registry_image import BundledSource  # noqa: PLC0415

        endpoint = registry.up(settings.registry, BundledSource(settings, note), notify=note)
        _result(
            options,
            {"address": endpoint.address, "instance": endpoint.instance},
            f"registry at {endpoint.address}",
        )
    elif options.action == "down":
        stopped = registry.down(settings.registry)
        _result(
            options, {"stopped": stopped}, "stopped; what it holds is kept" if stopped else "was not running"
        )
    elif options.action == "status":
        status = registry.status(settings.registry).to_json()
        _result(
            options,
            status,
            "\n".join(f"{key:<9} {value}" for key, value in status.items() if value is not None),
        )
    elif options.action == "gc":
        from mlpkg.registry_image import BundledSource  # noqa: PLC0415

        text = registry.collect_garbage(settings.registry, BundledSource(settings, note), notify=note)
        _result(options, {"result": text}, text)
    else:
        login = registry.credentials(settings.registry)
        _result(
            options,
            {"username": login.username, "password": login.password},
            f"{login.username} {login.password}",
        )
    return 0


def _schema(options: argparse.Namespace) -> int:
    from mlpkg import schema  # noqa: PLC0415

    if options.write:
        from mlpkg.manual import commands_page  # noqa: PLC0415

        page = options.write / "commands.md"
        written = schema.write_all(options.write)
        page.write_text(commands_page(parser()))
        for path in (*written, page):
            _say(str(path))
    else:
        _print(schema.package_schema() if options.of == "package" else schema.workspace_schema())
    return 0


def _root(options: argparse.Namespace) -> Path:
    from mlpkg.progress import set_quiet  # noqa: PLC0415
    from mlpkg.workspace import find_root  # noqa: PLC0415

    set_quiet(quiet=options.quiet)
    return (options.workspace or find_root(Path.cwd())).resolve()


def _workspace(options: argparse.Namespace) -> Any:
    from mlpkg.workspace import load  # noqa: PLC0415

    return load(_root(options))


def _settings(options: argparse.Namespace) -> Any:
    """The workspace's settings; outside any workspace the defaults, since the registry belongs to the user."""
    from mlpkg.spec import WorkspaceSpec  # noqa: PLC0415

    try:
        return _workspace(options).settings
    except UsageError:
        if options.workspace:
            raise
        return WorkspaceSpec()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(options: argparse.Namespace, value: Any, text: str) -> None:
    if options.json:
        _print(value)
    else:
        _say(text)


def _print(value: Any) -> None:
    _say(json.dumps(value, indent=1, ensure_ascii=False))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
