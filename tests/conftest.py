"""What makes every test the same on every machine and every run."""

from __future__ import annotations

import hypothesis
import torch

# One thread, so that sums add up in one order and tests leave the other cores alone.
torch.set_num_threads(1)

# The same examples each run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("hocket", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("hocket")
