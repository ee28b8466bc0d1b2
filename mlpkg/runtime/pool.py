"""The workers and the queue before them: who serves which request, until when, and what happens when one dies."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from mlpkg.runtime import frames, process
from mlpkg.runtime.jobs import Job
from mlpkg.runtime.logs import LOGGER
from mlpkg.runtime.settings import Settings

_GRACE_MS = 3000
"""How long after the scoring timeout a worker that ignores it is killed."""
_LEAVE_SECONDS: Final = 2.0
"""What a worker has to end by itself when the server stops."""
_DIE_SECONDS: Final = 5.0
"""What the kernel has to end a killed worker; one that waits for a dead disk would keep the server for ever."""
_QUICK: Final = 0.005
"""Seconds per request below which a worker is sent more than one."""
_AHEAD: Final = 8
"""How many requests a quick worker has at most, the one it serves among them."""

_INCOMING: Final = memoryview(bytearray(256 * 1024))
"""Where the loop puts what it reads from workers: a buffer of this size made for each read costs three system calls."""


class Worker(asyncio.BufferedProtocol):
    """The front's end of one worker process."""

    def __init__(self, pool: Pool, child: process.Process) -> None:
        self.pool = pool
        self.child = child
        self.reader = frames.ReplyReader()
        self.jobs: deque[Job] = deque()
        self.pace = _QUICK
        self._begun = 0.0
        self.is_ready = False
        self.is_streaming = False
        self.is_killed = False
        self.is_dead = False
        self.deadline = pool.boot_deadline()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is attached."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        return _INCOMING

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the worker."""
        self._received(bytes(_INCOMING[:nbytes]))

    def _received(self, data: bytes) -> None:
        """Frames from the worker, or pieces of them."""
        for kind, head, body in self.reader.feed(data):
            job = self.jobs[0] if self.jobs else None
            if kind == frames.READY:
                self.pool.worker_ready(self, float(head), body)
            elif job is None:
                continue
            elif kind == frames.ANSWER:
                self._settled()
                job.answer(head, body)
                self.pool.next_jobs(self)
            elif kind == frames.STREAM:
                self.is_streaming, self.deadline = True, None
                job.stream(head, self)
            elif kind == frames.CHUNK:
                job.chunk(body)
            elif kind == frames.END:
                self._settled()
                job.end(failed=bool(head))
                self.pool.next_jobs(self)

    def _settled(self) -> None:
        """The first job is answered; the worker goes on with the next that it has."""
        self.jobs.popleft()
        self.deadline, self.is_streaming = None, False
        now = time.monotonic()
        self.pace += (now - self._begun - self.pace) * 0.2
        if self.jobs:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._begun = now
        self.deadline = now + self.pool.run_limit
        self.jobs[0].begin()

    def takes_more(self) -> bool:
        """Whether a request may wait in the worker's socket, which saves both processes a wake-up.

        Only where it would have to wait for this worker anyway, and not for long.
        """
        if self.is_dead or not self.jobs:
            return not self.is_dead
        is_quick = self.pace < _QUICK and not self.is_streaming
        return is_quick and len(self.jobs) < _AHEAD and self.pool.settings.workers == 1

    def start(self, job: Job) -> None:
        """Hand a request to the worker, behind those that it has."""
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin(time.monotonic())
        body = job.body
        head = frames.request_frame(job.head, body)
        if self.transport is None:
            return
        if len(body) > 65536:
            self.transport.write(head)
            self.transport.write(body)
        else:
            self.transport.write(head + body)

    def drain(self) -> None:
        """Take what the process has sent before it ended."""
        while True:
            try:
                data = self.child.channel.recv(262144)
            except OSError:
                return
            if not data:
                return
            self._received(data)

    def hang_up(self) -> None:
        """Close the socket, which ends a worker that is idle."""
        if self.transport is not None:
            self.transport.close()

    def hold(self) -> None:
        """Read no more of the worker's answer for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def kill(self) -> None:
        """End the process; `Pool.reap` does the rest."""
        self.is_killed = True
        self.child.kill()


class Pool:
    """A fixed number of workers, kept alive, and a bounded queue."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_ready: Callable[[float, bytes], None],
        on_boot_failure: Callable[[], None],
        on_restart: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.workers: dict[int, Worker] = {}
        self.idle: list[Worker] = []
        self.queue: deque[Job] = deque()
        self.is_closing = False
        self._has_failed = False
        limit = (settings.timeout_ms + _GRACE_MS) / 1000
        self.run_limit = min(limit, settings.worker_timeout) if settings.worker_timeout else limit
        self._on_ready = on_ready
        self._on_boot_failure = on_boot_failure
        self._on_restart = on_restart

    @property
    def ready(self) -> int:
        """Workers whose init is done."""
        return sum(worker.is_ready for worker in self.workers.values())

    @property
    def in_flight(self) -> int:
        """Requests that a worker is serving."""
        return sum(bool(worker.jobs) for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        """Requests that wait, in the queue or in a worker's socket."""
        return len(self.queue) + sum(max(0, len(worker.jobs) - 1) for worker in self.workers.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight and nothing waits."""
        return not self.queue and not self.in_flight

    def boot_deadline(self) -> float | None:
        """When a worker that starts now is killed, if it is not ready by then."""
        limit = self.settings.worker_timeout
        return time.monotonic() + limit if limit else None

    async def start(self, children: Iterable[process.Process]) -> None:
        """Attach the processes that are already started, and start what is missing.

        Raises OSError when a process cannot be started.
        """
        for child in children:
            self.workers[child.pid] = Worker(self, child)
        while len(self.workers) < self.settings.workers:
            self._spawn()
        # All are known by now: any may end while another is attached.
        for worker in list(self.workers.values()):
            await self._attach(worker)
        await self.reap()

    def _spawn(self) -> Worker:
        child = process.spawn(os.environ)
        worker = self.workers[child.pid] = Worker(self, child)
        return worker

    async def _attach(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: worker, sock=worker.child.channel)
        if worker.is_dead:
            worker.hang_up()

    def submit(self, job: Job) -> bool:
        """Give a request to an idle worker or put it into the queue. False: the queue is full."""
        while self.idle:
            worker = self.idle.pop()
            if worker.child.is_alive():
                worker.start(job)
                return True
        if len(self.queue) >= self._room():
            self.queue = deque(job for job in self.queue if not job.is_abandoned)
            if len(self.queue) >= self._room():
                return False
        ahead = (
            None if self.queue else next((each for each in self.workers.values() if each.takes_more()), None)
        )
        if ahead is not None and ahead.jobs:
            ahead.start(job)
        else:
            self.queue.append(job)
        return True

    def _room(self) -> int:
        """How many may wait: those that idle or starting workers will take at once come on top."""
        ahead = self.waiting - len(self.queue)
        return self.settings.max_queue + len(self.workers) - self.in_flight - ahead

    def next_jobs(self, worker: Worker) -> None:
        """A worker is free for more: give it what waits longest, or let it rest."""
        while self.queue and worker.takes_more():
            job = self.queue.popleft()
            if not job.is_abandoned:
                worker.start(job)
        if not worker.jobs and not worker.is_dead:
            self.idle.append(worker)

    def worker_ready(self, worker: Worker, seconds: float, documents: bytes) -> None:
        """A worker's init is done."""
        worker.is_ready, worker.deadline = True, None
        self._on_ready(seconds, documents)
        self.next_jobs(worker)

    def sweep(self, now: float) -> None:
        """Kill the workers that are past their deadline."""
        for worker in self.workers.values():
            if worker.deadline is not None and now > worker.deadline and not worker.is_killed:
                what = "a request" if worker.is_ready else "init"
                LOGGER.error("Worker with pid %d is killed: %s took too long", worker.child.pid, what)
                worker.kill()

    async def reap(self) -> None:
        """Settle what the workers that have ended were serving, all of them; then replace them."""
        ended = [self._bury(pid, status) for pid, status in process.exited() if pid in self.workers]
        if self.is_closing or self._has_failed:
            return
        if not all(worker.is_ready for worker in ended):
            self._fail()
            return
        for _ in ended:
            self._on_restart()
            try:
                await self._attach(self._spawn())
            except OSError as error:
                LOGGER.error("A worker cannot be started: %s", error.strerror or error)
                self._fail()
                return

    def _bury(self, pid: int, status: int) -> Worker:
        """Take in what a worker has sent before it ended, and settle the rest."""
        worker = self.workers.pop(pid)
        worker.is_dead = True
        worker.child.kill()
        worker.drain()
        worker.hang_up()
        if worker in self.idle:
            self.idle.remove(worker)
        self._settle(worker)
        if not self.is_closing:
            LOGGER.error("Worker with pid %d %s", pid, process.describe(status))
        return worker

    def _fail(self) -> None:
        """The script cannot be served: no worker is started any more."""
        self._has_failed = True
        self._on_boot_failure()

    def _settle(self, worker: Worker) -> None:
        """The first of a dead worker's requests is lost; those behind it had not begun, so they wait again."""
        jobs, worker.jobs = worker.jobs, deque()
        if jobs:
            jobs.popleft().lost("stopped" if self.is_closing else "timeout" if worker.is_killed else "died")
        if self.is_closing:
            for job in jobs:
                job.lost("stopped")
        else:
            self.queue.extendleft(reversed(jobs))

    async def close(self) -> None:
        """Let the workers end, and kill those that do not within two seconds."""
        self.is_closing = True
        while self.queue:
            self.queue.popleft().lost("stopped")
        for worker in self.workers.values():
            if worker.is_ready and not worker.jobs:
                worker.hang_up()
            else:
                worker.kill()
        await self._wait_for_workers(_LEAVE_SECONDS)
        for worker in self.workers.values():
            worker.kill()
        await self._wait_for_workers(_DIE_SECONDS)
        for pid in self.workers:
            LOGGER.error("Worker with pid %d does not end, though it was killed", pid)

    async def _wait_for_workers(self, seconds: float) -> None:
        patience = time.monotonic() + seconds
        while self.workers and time.monotonic() < patience:
            await asyncio.sleep(0.01)
            await self.reap()
