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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpkg import interrupt
from mlpkg.cli.grammar import make_parser
from mlpkg.errors import MlpkgError, UsageError

if TYPE_CHECKING:
    from mlpkg.spec.model import WorkspaceSpec
    from mlpkg.spec.workspace import Package, Workspace
    from mlpkg.tasks.run import Outcome

BUG = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it ended, as an exit code. The one place where errors become texts."""
    if arguments is None:
        interrupt.install()
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MlpkgError as error:
        sys.stderr.write(f"error: {error}\n")
        if options.json:
            _print({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(interrupt.SAID)
        return interrupt.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return interrupt.INTERRUPTED
    except Exception:  # noqa: BLE001 - the boundary: anything else is a bug, and says so
        traceback.print_exc()
        sys.stderr.write("this is a bug in mlpkg; please report it with the lines above\n")
        return BUG


def parser() -> argparse.ArgumentParser:
    """All verbs and their options; the CLI reference is generated from it."""
    return make_parser(
        {
            "lock": _lock,
            "plan": _plan,
            "build": _build,
            "push": _push,
            "run": _run,
            "serve": _serve,
            "score": _score,
            "logs": _logs,
            "stop": _stop,
            "registry": _registry,
            "schema": _schema,
        }
    )


def _lock(options: argparse.Namespace) -> int:
    return _drive(options, "lock")


def _build(options: argparse.Namespace) -> int:
    return _drive(options, "build")


def _push(options: argparse.Namespace) -> int:
    return _drive(options, "push")


def _drive(options: argparse.Namespace, step: str) -> int:
    outcome = _driven(options, step, tuple(options.packages))
    if options.json:
        _print_outcome(outcome)
    return outcome.exit_code


def _driven(options: argparse.Namespace, step: str, names: tuple[str, ...]) -> Outcome:
    from mlpkg.tasks.run import drive  # noqa: PLC0415 - loads doit

    return drive(
        _root(options),
        step,
        names,
        jobs=getattr(options, "jobs", None) or 0,
        upgrade=getattr(options, "upgrade", False),
        quiet=options.quiet or options.json,
    )


def _print_outcome(outcome: Outcome) -> None:
    _print({"exit_code": outcome.exit_code, "steps": outcome.reports, "errors": outcome.errors})


def _plan(options: argparse.Namespace) -> int:
    from mlpkg.tasks.forecast import forecast  # noqa: PLC0415

    workspace = _workspace(options)
    packages = [workspace.package(name) for name in options.packages] or list(workspace.packages)
    forecasts = [forecast(package) for package in packages]
    if options.json:
        _print([found.to_json() for found in forecasts])
    else:
        for found in forecasts:
            _say("\n".join(found.lines()))
    return 0


def _run(options: argparse.Namespace) -> int:
    from mlpkg.progress import note  # noqa: PLC0415
    from mlpkg.service import running as service  # noqa: PLC0415

    service.require_port(_package(options), options.port)
    outcome = _driven(options, "push", (options.package,))
    if outcome.exit_code:
        if options.json:
            _print_outcome(outcome)
        return outcome.exit_code
    package = _package(options)
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
        # The server owns its process: signals, environment, standard streams. -P: as in the image.
        model = ["--model-dir", options.model_dir] if options.model_dir else []
        server = [sys.executable, "-P", "-m", "mlpkg.runtime", options.package]
        os.execv(sys.executable, [*server, *model, "--port", str(options.port)])  # noqa: S606 - no shell
    from mlpkg.progress import note  # noqa: PLC0415
    from mlpkg.service import running as service  # noqa: PLC0415

    service.require_free(options.port)
    outcome = _driven(options, "lock", (options.package,))
    if outcome.exit_code:
        if options.json:
            _print_outcome(outcome)
        return outcome.exit_code
    return service.foreground(_package(options), options.port, note)


def _score(options: argparse.Namespace) -> int:
    from mlpkg.service import running as service  # noqa: PLC0415

    try:
        body = sys.stdin.buffer.read() if str(options.request) == "-" else options.request.read_bytes()
    except OSError as error:
        raise UsageError(f"{options.request}: {error.strerror}") from error
    status, answer = service.score(_package(options), body, options.timeout)
    text = answer.decode(errors="replace")
    if options.json:
        _print({"status": status, "body": _parsed(text)})
    else:
        _say(text)
    if status >= 400:
        sys.stderr.write(f"error: the service answered {status}; see `mlpkg logs {options.package}`\n")
    return 0 if status < 400 else 1


def _logs(options: argparse.Namespace) -> int:
    from mlpkg.service import running as service  # noqa: PLC0415

    for piece in service.logs(_package(options), follow=options.follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 0


def _stop(options: argparse.Namespace) -> int:
    from mlpkg.service import running as service  # noqa: PLC0415

    stopped = service.stop(_package(options))
    if options.json:
        _print({"stopped": stopped})
    elif not options.quiet:
        _say(f"{options.package}: {'stopped' if stopped else 'was not running'}")
    return 0


def _registry(options: argparse.Namespace) -> int:
    from mlpkg.progress import note  # noqa: PLC0415
    from mlpkg.registry import bundled as registry  # noqa: PLC0415

    settings = _settings(options)
    if options.action == "up":
        from mlpkg.registry.own_image import BundledSource  # noqa: PLC0415

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
        from mlpkg.registry.own_image import BundledSource  # noqa: PLC0415

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
    from mlpkg.spec import schema  # noqa: PLC0415

    if options.write:
        from mlpkg.cli.manual import commands_page  # noqa: PLC0415

        page = options.write / "commands.md"
        try:
            written = schema.write_all(options.write)
            page.write_text(commands_page(parser()))
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from error
        for path in (*written, page):
            _say(str(path))
    else:
        _print(schema.package_schema() if options.of == "package" else schema.workspace_schema())
    return 0


def _root(options: argparse.Namespace) -> Path:
    from mlpkg.progress import set_quiet  # noqa: PLC0415
    from mlpkg.spec.workspace import find_root  # noqa: PLC0415

    set_quiet(quiet=options.quiet)
    if options.workspace is None:
        return find_root(Path.cwd()).resolve()
    root: Path = options.workspace.resolve()
    if not root.is_dir():
        raise UsageError(f"--workspace {options.workspace}: no such folder")
    return root


def _workspace(options: argparse.Namespace) -> Workspace:
    from mlpkg.spec.workspace import load  # noqa: PLC0415

    return load(_root(options))


def _package(options: argparse.Namespace) -> Package:
    """The package that was named; what is wrong with others is not its business."""
    from mlpkg.spec.workspace import load_around  # noqa: PLC0415

    return load_around(_root(options), options.package).package(options.package)


def _settings(options: argparse.Namespace) -> WorkspaceSpec:
    """The workspace's settings; outside any workspace the defaults, since the registry belongs to the user."""
    from mlpkg.spec.model import WorkspaceSpec  # noqa: PLC0415
    from mlpkg.spec.workspace import load_around  # noqa: PLC0415

    try:
        return load_around(_root(options)).settings
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
