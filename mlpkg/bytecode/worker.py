"""Compiles sources to unchecked hash-based .pyc (PEP 552), one forked process a file. Runs in the image's Python.

The bytes of a .pyc depend on more than the source: a code object that holds a frozenset of strings is
built otherwise when one of those strings was interned before (CPython 3.11 to 3.13, `intern_constants`
in codeobject.c), so that the order of files shows (measured: 10 of 4,323 files). Hence each file is
compiled in a fork of a parent that has compiled nothing. For the same reason nothing is imported here
that is not needed, and a child alone decodes names.

Input: pairs of source and image path, each ended by NUL. The results go one after the other to the file
that the first argument names; for each, a line with its size in bytes (-1: does not compile) is written.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from importlib.util import MAGIC_NUMBER, source_hash
from marshal import dumps

UNCHECKED = (1).to_bytes(4, "little")
SKIPPED = 3


def main() -> int:
    """Compile all that is asked for; 1 when a child ended otherwise than it should."""
    gc.disable()
    warnings.simplefilter("ignore")
    pack = sys.argv[1]
    with open(0, "rb", closefd=False) as asked:
        jobs = asked.read().split(b"\0")
    end = 0
    for source, path in zip(jobs[:-1:2], jobs[1::2], strict=True):
        child = os.fork()
        if not child:
            _compile_and_exit(source, path, pack)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, SKIPPED):
            os.write(2, b"%b: the compiler ended with status %d\n" % (path, status))
            return 1
        start, end = end, os.stat(pack).st_size if status == 0 else end  # noqa: PTH116
        os.write(1, b"%d\n" % (end - start if status == 0 else -1))
    return 0


def _compile_and_exit(source: bytes, path: bytes, pack: str) -> None:
    """Append one result to the pack. Never returns: the caller's loop is the parent's."""
    status = 2
    try:
        with open(source, "rb") as file:  # noqa: PTH123
            data = file.read()
        try:
            code = compile(data, os.fsdecode(path), "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError, OverflowError, RecursionError):
            status = SKIPPED
        else:
            with open(pack, "ab") as file:  # noqa: PTH123
                file.write(b"".join((MAGIC_NUMBER, UNCHECKED, source_hash(data), dumps(code))))
            status = 0
    except (OSError, MemoryError) as error:
        os.write(2, os.fsencode(f"{type(error).__name__}: {error}\n"))
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
