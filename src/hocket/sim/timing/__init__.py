"""A recorded timing lived through with real training.

Who trained from which base, in which order and at which times updates arrived come from a history,
a production run's for one; what is learned comes from the simulator's own learners.
"""

from hocket.sim.timing.replay import Replay
from hocket.sim.timing.roles import plans_of

__all__ = ["Replay", "plans_of"]
