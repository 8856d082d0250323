"""Every aggregation rule we ship. To add one: write the module, list it here."""

from __future__ import annotations

from hocket.learn.strategies.fedasmu import FedASMU
from hocket.learn.strategies.fedasync import FedAsync
from hocket.learn.strategies.fedavg import FedAvg
from hocket.learn.strategies.fedbuff import FedBuff

AnyStrategy = FedAsync | FedBuff | FedAvg | FedASMU

__all__ = ["AnyStrategy", "FedASMU", "FedAsync", "FedAvg", "FedBuff"]
