"""How much is tried: ``STELAR_EXAMPLES`` inputs a target, as ``make fuzz`` sets it, or else a few."""

from __future__ import annotations

import os

from hypothesis import settings

# Never derandomized: each run is to look elsewhere. What fails is printed with a blob that brings it back,
# and is kept in .hypothesis/ and tried first the next time.
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("STELAR_EXAMPLES", "200")),
    deadline=None,
    derandomize=False,
    print_blob=True,
)
settings.load_profile("fuzz")
