"""Every aggregation rule we ship. To add one: write the module, list it here."""

from __future__ import annotations

from hocket.learn.strategies.ca2fl import Ca2fl
from hocket.learn.strategies.fadas import Fadas
from hocket.learn.strategies.fedasmu import FedASMU
from hocket.learn.strategies.fedasync import FedAsync
from hocket.learn.strategies.fedavg import FedAvg
from hocket.learn.strategies.fedbuff import FedBuff
from hocket.learn.strategies.fednova import FedNova
from hocket.learn.strategies.port import Port

AnyStrategy = FedAsync | FedBuff | FedAvg | FedASMU | Port | Ca2fl | Fadas | FedNova

__all__ = [
    "AnyStrategy",
    "Ca2fl",
    "Fadas",
    "FedASMU",
    "FedAsync",
    "FedAvg",
    "FedBuff",
    "FedNova",
    "Port",
]
