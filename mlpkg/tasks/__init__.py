"""doit's view of a workspace. ``from mlpkg.tasks import *`` in dodo.py is all that a workspace needs."""

from __future__ import annotations

from mlpkg.tasks.doit import DOIT_CONFIG, task_build, task_lock, task_push, task_render, task_tag

__all__ = ["DOIT_CONFIG", "task_build", "task_lock", "task_push", "task_render", "task_tag"]
