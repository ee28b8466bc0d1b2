"""Ctrl-C and SIGTERM: one KeyboardInterrupt, an orderly end, exit 130. A second signal at once changes nothing.

People press Ctrl-C twice, and programs that stop a run send SIGTERM after SIGINT. What the first signal began
(doit writes its database, locks are released) must not be cut short by the second one, and ends without a
traceback.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

INTERRUPTED = 130
"""Exit code of an interrupted run, also by SIGTERM."""

QUICK = 2.0
"""Seconds after a signal in which another one says nothing new."""

SAID = "interrupted; what was done is kept\n"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_seen: dict[int, float] = {}
"""When each process (a worker is a copy of its parent) was signalled last, by `time.monotonic`."""

_installed_in: list[int] = []


def install() -> None:
    """Take over both signals of this process; does nothing outside the main thread, and the second time."""
    if _installed_in or threading.current_thread() is not threading.main_thread():
        return
    _installed_in.append(os.getpid())
    for number in _SIGNALS:
        # A signal that is ignored was ignored by who started us (nohup, a shell's `&`).
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.excepthook = _excepthook


def settle() -> None:
    """The process ends because of a signal: another one says nothing new, also while Python takes itself down.

    Python gives signals back to the system then, whose way with them is to kill.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    own, now = os.getpid(), time.monotonic()
    before = _seen.get(own)
    _seen[own] = now
    if own in _installed_in:
        if before is not None and now - before < QUICK:
            return
    elif before is not None:
        # A worker that was told once: its parent ends it now, and it has nothing to keep.
        if number == signal.SIGTERM:
            os._exit(INTERRUPTED)
        return
    raise KeyboardInterrupt


def _excepthook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
    """What nobody caught ends the process as Python would, but an interrupt is no mistake to show."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, value, traceback)
        return
    settle()
    sys.stdout.flush()
    sys.stderr.write(SAID)
    sys.stderr.flush()
    # Python would end itself by SIGINT; the house's exit code is a number.
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter calls on its way out
    os._exit(INTERRUPTED)
