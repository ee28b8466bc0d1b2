"""doit's worker processes (``doit -n``): doit waits for ever for one that was killed, so somebody must look.

Measured (doit 0.37): the parent blocks in its result queue when a worker dies, as the kernel kills one for
lack of memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable

EVERY = 0.05
"""Seconds between looks; a worker that was never seen alive is not missed. A look is one waitpid a worker."""

GRACE = 3.0
"""Seconds that the run has to end by itself."""


def watch_workers(tell: Callable[[str], None]) -> None:
    """Look at this process's workers until it ends; interrupt the run when one was killed."""
    threading.Thread(target=_watch, args=(tell,), daemon=True, name="watch-workers").start()


def _end(workers: Iterable[multiprocessing.process.BaseProcess]) -> None:
    """End the run: as Ctrl-C would and, where queues of dead workers hold the parent (measured), at once."""
    for worker in workers:
        worker.terminate()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _watch(tell: Callable[[str], None]) -> None:
    known: set[multiprocessing.process.BaseProcess] = set()
    while True:
        time.sleep(EVERY)
        known.update(multiprocessing.active_children())
        for worker in known:
            code = worker.exitcode
            if code is not None and code < 0:
                tell(f"a worker process was killed by signal {-code} (out of memory?); what was done is kept")
                _end(known)
