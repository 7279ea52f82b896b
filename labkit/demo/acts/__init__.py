"""What the demonstration of one lab alone needs: one module a lab, whose ACT is a subclass of Act.

A new lab gets labs/LAB/demo.toml and acts/LAB.py, and nothing else has to know of it. Its ACT adds the words that its
script uses (do_NAME, see_NAME), says what there is to see (`view`), and may have props. The other modules are what
these are made of; the *_worker ones are programs of their own, laid beside the submission's.
"""

import importlib

from labkit.course import Lab
from labkit.demo.act import Act


def act_of(lab: Lab) -> type[Act]:
    """The act of a lab that has a demonstration."""
    return importlib.import_module(f"{__name__}.{lab.slug}").ACT
