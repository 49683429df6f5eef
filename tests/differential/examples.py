"""How many inputs a property is tried with: some, or ``STELAR_EXAMPLES``, as the environment has it."""

from __future__ import annotations

import os

from hypothesis import settings


def examples(usual: int) -> settings:
    """Settings for ``usual`` inputs where the environment does not say how many."""
    return settings(max_examples=int(os.environ.get("STELAR_EXAMPLES", usual)), deadline=None)
