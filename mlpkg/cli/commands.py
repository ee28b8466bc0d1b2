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
from mlpkg.errors import MlpkgError, SpecError, UsageError
from mlpkg.store.files import is_unwritable, unwritable

if TYPE_CHECKING:
    from mlpkg.spec.model import WorkspaceSpec
    from mlpkg.spec.workspace import Package, Workspace
    from mlpkg.tasks.run import RunOutcome

BUG = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and say how it ended, as an exit code. The one place where errors become texts."""
    wants_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        interrupt.install()
    try:
        options = parser().parse_args(arguments)
        if options.workspace is not None:
            # Once, before anything changes the folder that it is relative to.
            options.workspace = options.workspace.resolve()
        return int(options.run(options))
    except MlpkgError as error:
        return _failed(error, wants_json=wants_json)
    except KeyboardInterrupt:
        if arguments is None:
            interrupt.settle()
        sys.stderr.write(interrupt.SAID)
        return interrupt.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return interrupt.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the boundary: anything else is a bug, and says so
        if isinstance(error, OSError) and is_unwritable(error):
            return _failed(unwritable(error.filename or "a file", error), wants_json=wants_json)
        traceback.print_exc()
        sys.stderr.write("this is a bug in mlpkg; please report it with the lines above\n")
        return BUG


def _failed(error: MlpkgError, *, wants_json: bool) -> int:
    sys.stderr.write(f"error: {error}\n")
    if wants_json:
        _print({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    return error.exit_code


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
    if options.check:
        _forget_false_receipts(options)
    return _drive(options, "push")


def _forget_false_receipts(options: argparse.Namespace) -> None:
    """Ask the registry for what was pushed; a receipt that is not true is forgotten, so that it is pushed again."""
    from mlpkg.progress import note  # noqa: PLC0415
    from mlpkg.steps import push  # noqa: PLC0415
    from mlpkg.store.runlock import hold_workspace  # noqa: PLC0415

    workspace = _workspace(options)
    hold_workspace(workspace.root)
    for package in [workspace.package(name) for name in options.packages] or workspace.packages:
        for missing in push.check(package, note):
            note(f"{package.name}: {missing}")


def _drive(options: argparse.Namespace, step: str) -> int:
    outcome = _driven(options, step, tuple(options.packages))
    if options.json:
        _print_outcome(outcome)
    return outcome.exit_code


def _driven(options: argparse.Namespace, step: str, names: tuple[str, ...]) -> RunOutcome:
    from mlpkg.tasks.run import drive  # noqa: PLC0415 - loads doit

    return drive(
        _root(options),
        step,
        names,
        jobs=getattr(options, "jobs", None) or 0,
        upgrade=getattr(options, "upgrade", False),
        quiet=options.quiet or options.json,
    )


def _print_outcome(outcome: RunOutcome) -> None:
    _print({"exit_code": outcome.exit_code, "steps": outcome.reports, "errors": outcome.errors})


def _plan(options: argparse.Namespace) -> int:
    from mlpkg.tasks.forecast import forecast  # noqa: PLC0415

    workspace = _workspace(options)
    forecasts = [forecast(package) for package in workspace.chosen(options.packages)]
    broken = () if options.packages else workspace.broken
    if options.json:
        unread = [
            {
                "package": one.name or None,
                "file": one.shown,
                "errors": [str(problem) for problem in one.problems],
            }
            for one in broken
        ]
        _print([*(found.to_json() for found in forecasts), *unread])
    else:
        for found in forecasts:
            if not options.quiet:
                _say("\n".join(found.lines()))
            elif steps := [step for step, reasons in found.reasons.items() if reasons]:
                _say(f"{found.package}: {' '.join(steps)}")
    if not options.packages:
        sys.stderr.write(workspace.told())
    return SpecError.exit_code if broken else 0


def _run(options: argparse.Namespace) -> int:
    from mlpkg.progress import note  # noqa: PLC0415
    from mlpkg.service import running as service  # noqa: PLC0415

    service.choose_port(_package(options), options.port)
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
    from mlpkg.service import running as service  # noqa: PLC0415

    if options.package.endswith(".py"):
        # The server owns its process: signals, environment, standard streams. -P: as in the image.
        model = ["--model-dir", options.model_dir] if options.model_dir else []
        server = [sys.executable, "-P", "-m", "mlpkg.runtime", options.package]
        port = str(service.choose_port(None, options.port))
        os.execv(sys.executable, [*server, *model, "--port", port])  # noqa: S606 - no shell
    from mlpkg.progress import note  # noqa: PLC0415

    service.choose_port(None, options.port)
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

    if options.json and options.follow:
        raise UsageError("--json prints one document, and a log that is followed has no end")
    pieces = service.logs(_package(options), follow=options.follow)
    if options.json:
        _print({"log": b"".join(pieces).decode(errors="replace").splitlines()})
        return 0
    for piece in pieces:
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
    from mlpkg.cli import registry  # noqa: PLC0415

    answer = registry.answer(options.action, _settings(options))
    _result(options, answer.value, answer.text)
    return answer.exit_code


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
    root: Path = options.workspace
    if not root.is_dir():
        raise UsageError(f"--workspace {options.workspace}: no such folder")
    return root


def _workspace(options: argparse.Namespace) -> Workspace:
    from mlpkg.spec.workspace import load  # noqa: PLC0415

    return load(_root(options))


def _package(options: argparse.Namespace) -> Package:
    """The package that was named; what is wrong with others is not its business."""
    return _workspace(options).package(options.package)


def _settings(options: argparse.Namespace) -> WorkspaceSpec:
    """The workspace's settings; outside any workspace the defaults, since the registry belongs to the user."""
    from mlpkg.spec.model import WorkspaceSpec  # noqa: PLC0415
    from mlpkg.spec.workspace import read_settings  # noqa: PLC0415

    try:
        return read_settings(_root(options))
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
