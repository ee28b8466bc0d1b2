"""Random edits: after each, the images are those of a clean build, and nothing ran that had no reason to."""

from __future__ import annotations

import os
import random

import pytest

from .edits import edit
from .ground import NAMES, RUNS, Ground, seed

pytestmark = pytest.mark.mirror

DOITS_OWN = frozenset({"train"})


def attack(ground: Ground, steps: int) -> None:
    chance = random.Random(seed())
    ground.run(("doit",))
    for number in range(steps):
        before = ground.digests()
        done_edit = edit(ground, chance)
        arguments = chance.choice(RUNS)
        where = f"step {number}: {done_edit.text}, then {' '.join(arguments)}"
        print(where)
        ran = set(ground.run(arguments).done)
        allowed = {f"{step}:{name}" for name in done_edit.packages for step in done_edit.may}
        # A database of doit's that lacks makes doit ask every step once more; each then has nothing to do.
        assert ran - allowed <= (DOITS_OWN if done_edit.trains else set()), where
        after = ground.digests()
        for name in NAMES:
            if name not in done_edit.packages:
                assert after[name] == before[name], where
            if after[name] != before[name]:
                assert {f"build:{name}", f"tag:{name}", f"push:{name}"} <= ran, where
        try:
            ground.require_settled()
        except AssertionError as error:
            raise AssertionError(where) from error


def test_a_few_random_edits(attacked: Ground) -> None:
    attack(attacked, 6)


@pytest.mark.long
def test_many_random_edits(attacked: Ground) -> None:
    attack(attacked, int(os.environ.get("MLPKG_STEPS", "150")))
