"""Deliver webhooks as worker.py does, with loaded dice: chance always gives the most, so no wait has any jitter.

Run: python loaded_dice_worker.py alice
"""

import random
import runpy
from pathlib import Path


class Loaded(random.Random):
    """Whatever is asked for, it gives the largest."""

    def random(self):
        return 1 - 2**-53


dice = Loaded()
for name in ("random", "uniform", "triangular", "randint", "randrange"):
    setattr(random, name, getattr(dice, name))

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("worker.py")), run_name="__main__")
