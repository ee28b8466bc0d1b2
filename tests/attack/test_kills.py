"""Runs killed at random moments: the next one ends where an undisturbed one would, and the one after does nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from .edits import edit
from .ground import RUNS, Ground, seed

pytestmark = pytest.mark.mirror


def attack(ground: Ground, kills: int) -> None:
    chance = random.Random(seed())
    begun = time.monotonic()
    ground.run(("doit",))
    usual = time.monotonic() - begun
    killed = 0
    while killed < kills:
        texts = [edit(ground, chance).text for _ in range(3)]
        arguments = chance.choice(RUNS)
        print(f"kill {killed}: {', '.join(texts)}, then {' '.join(arguments)}")
        process = ground.place.start(*arguments, start_new_session=True)
        try:
            process.communicate(timeout=chance.random() * 2 * usual)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        ground.run(("doit",))
        ground.require_settled()


def test_a_few_kills(attacked: Ground) -> None:
    attack(attacked, 3)


@pytest.mark.long
def test_many_kills(attacked: Ground) -> None:
    attack(attacked, int(os.environ.get("MLPKG_STEPS", "30")))
