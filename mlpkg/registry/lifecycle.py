"""Start, find, confirm and stop the bundled registry, whichever way it runs. Callers hold `state.lock`."""

from __future__ import annotations

import platform
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from mlpkg.errors import MlpkgError, NotWritten, Taken, Unreachable, UsageError
from mlpkg.progress import Notify
from mlpkg.registry import probe, process, state
from mlpkg.registry.source import Source
from mlpkg.registry.state import BundledSecrets, BundledSettings, BundledState


def is_running(known: BundledState) -> bool:
    """Whether what was started then still runs; what an absent engine was to run does not."""
    if known.mode == "process":
        return process.is_alive(known.pid, known.started)
    if known.container is None:
        return False
    from mlpkg import engine  # noqa: PLC0415

    try:
        found = engine.inspect(known.container)
    except Unreachable:
        return False
    return found is not None and found.running


def running(port: int, secrets: BundledSecrets, notify: Notify) -> BundledState | None:
    """The registry that runs on this port and is ours, even when the state file is lost.

    Raises Taken when something else listens there.
    """
    known = state.read_state(port)
    if known and (_is_proven(known, secrets) or is_running(known)):
        return known
    if not probe.is_taken(port):
        return None
    adopted = _adopted(port)
    if adopted and probe.is_ours(port, _login(secrets, adopted.wanted)):
        if known and known.instance != adopted.instance:
            notify(
                f"the registry's container runs again: its storage is the {place(adopted)}, not the {place(known)}"
            )
        return adopted
    require_free(port)
    return None


def require_free(port: int) -> None:
    """Raises Taken, with who has it, when something listens on the port and stays there."""
    if probe.is_taken(port) and probe.stays_taken(port):
        raise Taken(
            f"port {port} of 127.0.0.1 is taken by {probe.listener(port)}",
            hint=f"stop it, or choose another port: [registry] port = {probe.next_free(port)} in mlpkg.toml",
        )


def stranger(port: int) -> str | None:
    """Who listens where our registry does not, for people."""
    return f"port {port} is taken by {probe.listener(port)}" if probe.is_taken(port) else None


def looked_at(known: BundledState, secrets: BundledSecrets | None) -> tuple[bool, str | None]:
    """Whether the registry runs, and what is not as it should be."""
    port = known.wanted.port
    answers = secrets is not None and probe.is_ours(port, _login(secrets, known.wanted))
    if is_running(known):
        return True, None if answers else f"it runs, and does not answer on port {port}"
    if known.mode == "container" and (reason := _engine_fault()):
        said = "it answers" if answers else "it does not answer"
        return answers, f"{said}, and the engine that runs it cannot be asked: {reason}"
    if answers:
        return True, "it answers, and was not started by the last `mlpkg registry up`"
    return False, stranger(port)


def _engine_fault() -> str | None:
    from mlpkg import engine  # noqa: PLC0415

    return engine.available()


def _is_proven(known: BundledState, secrets: BundledSecrets) -> bool:
    """Whether the known container answers. Its random password proves it, so that no engine need be asked.

    A process needs no proof (`is_running` costs nothing there), and would not be told from a container
    that came back: both know the password.
    """
    login = _login(secrets, known.wanted)
    return known.mode == "container" and login is not None and probe.is_ours(known.wanted.port, login)


def _adopted(port: int) -> BundledState | None:
    """This user's container for the port, as a state, from its labels."""
    from mlpkg.registry import container  # noqa: PLC0415

    try:
        found = container.existing(port)
        if found is None or not found.running:
            return None
        wanted = container.wanted_of(found)
        return BundledState(
            mode="container",
            wanted=wanted,
            instance=container.ensure_instance(container.plan(wanted)),
            container=found.id,
            since=found.started,
            version=container.version(found.id),
        )
    except MlpkgError:
        return None


def confirmed(known: BundledState, wanted: BundledSettings, secrets: BundledSecrets) -> BundledState:
    """A running registry, if it is the one that is wanted and answers; its instance looked at afresh.

    Raises UsageError (it runs with other settings), MlpkgError (it does not answer).
    """
    port = wanted.port
    if known.wanted != wanted:
        raise UsageError(
            f"the registry on port {port} runs with other settings: storage {place(known)}, "
            f"auth {'on' if known.wanted.auth else 'off'}",
            hint="stop it with `mlpkg registry down`, or choose another [registry] port",
        )
    if not probe.wait(port, _login(secrets, wanted), lambda: is_running(known)):
        raise MlpkgError(
            f"the registry on port {port} runs and does not answer: {_log_tail(known)}",
            hint="stop it with `mlpkg registry down` and start it again",
        )
    folder = state.data_folder(known)
    fresh = replace(known, instance=state.ensure_instance(folder)) if folder else known
    if known.mode == "process":
        process.trim_log(state.port_path(port))
    if fresh != state.read_state(port):
        state.write_state(fresh)
    return fresh


def start(wanted: BundledSettings, secrets: BundledSecrets, source: Source, notify: Notify) -> BundledState:
    """Start the registry as a container, or as a process where that cannot be, and wait until it answers.

    It keeps to the way it ran last, because the other way has another storage; a change is told.
    Raises UsageError, Unreachable (no engine, no Linux), MlpkgError, and what `source` raises.
    """
    known = state.read_state(wanted.port)
    if known is None or known.mode == "container":
        reason = _no_engine()
        if reason is None:
            try:
                return _start_container(wanted, secrets, source, notify)
            except MlpkgError as error:
                # Once there is data in a volume, a failed start is no reason to leave it behind.
                if known or isinstance(error, UsageError | NotWritten):
                    raise
                reason = error.message
        if platform.system() != "Linux":
            raise Unreachable(
                f"the bundled registry needs a Docker engine here: {reason}",
                hint="start Docker, or set [registry] address to another registry",
            )
        notify(f"the registry runs as a process: {reason}")
        if known and not (known.wanted.storage and wanted.storage):
            notify(f"its storage is another one: what was pushed before is in the {place(known)}")
    return _start_process(wanted, secrets, source, notify)


def _no_engine() -> str | None:
    from mlpkg import engine  # noqa: PLC0415

    reason = engine.available()
    if reason is None and not engine.is_local():
        return "the Docker engine is on another machine"
    return reason


def _start_container(
    wanted: BundledSettings, secrets: BundledSecrets, source: Source, notify: Notify
) -> BundledState:
    from mlpkg.registry import container  # noqa: PLC0415

    notify(f"starting the registry on 127.0.0.1:{wanted.port}")
    plan = container.plan(wanted)
    fresh = BundledState(mode="container", wanted=wanted, instance=container.ensure_instance(plan))
    name = container.start(plan, secrets, source)
    fresh = _answering(replace(fresh, container=name, since=_now()), secrets)
    fresh = replace(fresh, version=container.version(name))
    with suppress(NotWritten):  # it is remembered, only without its version
        state.write_state(fresh)
    return fresh


def _start_process(
    wanted: BundledSettings, secrets: BundledSecrets, source: Source, notify: Notify
) -> BundledState:
    binary = source.binary()
    notify(f"starting the registry on 127.0.0.1:{wanted.port}")
    is_first = state.read_state(wanted.port) is None
    instance = state.ensure_instance(state.folder_of(wanted))
    fresh = BundledState(mode="process", wanted=wanted, instance=instance, version=process.version(binary))
    pid = process.start(binary, wanted, secrets)
    try:
        return _answering(replace(fresh, pid=pid, started=process.birth(pid), since=_now()), secrets)
    except Taken:
        if is_first:
            state.forget(wanted.port)
        raise


def _answering(fresh: BundledState, secrets: BundledSecrets) -> BundledState:
    """Remember first what was started, so that it can be found; stop it again if it never answers."""
    try:
        state.write_state(fresh)
    except MlpkgError:
        _halt(fresh)
        raise
    answers = probe.wait(fresh.wanted.port, _login(secrets, fresh.wanted), lambda: is_running(fresh))
    if answers and is_running(fresh):
        return fresh
    said = _log_tail(fresh)
    stop(fresh)
    # Somebody else was faster between the look and the start.
    require_free(fresh.wanted.port)
    raise MlpkgError(
        f"the registry does not answer on port {fresh.wanted.port}: {said or 'it wrote no log'}",
        hint="see its storage's free space and rights",
    )


def stop(known: BundledState) -> bool:
    """Stop exactly what `known` names, and say whether it ran. Raises Unreachable, MlpkgError."""
    was_running = _halt(known)
    state.write_state(replace(known, container=None, pid=None, started=None, since=None))
    return was_running


def _halt(known: BundledState) -> bool:
    return _stop_container(known) if known.mode == "container" else _stop_process(known)


def _stop_process(known: BundledState) -> bool:
    return bool(known.pid and known.started and process.stop(known.pid, known.started))


def _stop_container(known: BundledState) -> bool:
    from mlpkg import engine  # noqa: PLC0415

    found = engine.inspect(known.container) if known.container else None
    if found is None:
        return False
    engine.stop(found.id)
    engine.remove(found.id)
    return found.running


@contextmanager
def standing_still(
    known: BundledState, secrets: BundledSecrets, source: Source, notify: Notify
) -> Generator[None, None, None]:
    """Nothing is written to the storage while the block runs; a registry that ran is started again.

    Raises as `start` and `stop` do.
    """
    was_running = is_running(known)
    if was_running:
        notify("the registry stands still while its storage is cleaned")
        stop(known)
    try:
        yield
    finally:
        if was_running:
            start(known.wanted, secrets, source, notify)


def place(known: BundledState) -> str:
    """Where the data lies, for people."""
    if folder := state.data_folder(known):
        return f"folder {folder}"
    from mlpkg.registry import container  # noqa: PLC0415

    return f"volume {container.volume_name(known.wanted.port)}"


def size(known: BundledState) -> int | None:
    """Bytes in the storage, None when that cannot be known."""
    if folder := state.data_folder(known):
        return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
    from mlpkg import engine  # noqa: PLC0415
    from mlpkg.registry import container  # noqa: PLC0415

    try:
        return engine.volume_size(container.volume_name(known.wanted.port))
    except MlpkgError:
        return None


def _log_tail(known: BundledState) -> str:
    if known.mode == "process":
        return process.log_tail(state.port_path(known.wanted.port))
    from mlpkg.registry import container  # noqa: PLC0415

    try:
        return container.log_tail(known.container or "")
    except MlpkgError as error:
        return error.message


def _login(secrets: BundledSecrets, wanted: BundledSettings) -> tuple[str, str] | None:
    return (secrets.username, secrets.password) if wanted.auth else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
