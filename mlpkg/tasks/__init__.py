"""doit's view of a workspace. ``from mlpkg.tasks import *`` in dodo.py is all that a workspace needs."""

from __future__ import annotations

from mlpkg.tasks.doit import DOIT_CONFIG, creators

# One task creator a step, so that a new step needs no line here.
globals().update(creators())

__all__ = ["DOIT_CONFIG", *creators()]  # noqa: PLE0604 - they are names
