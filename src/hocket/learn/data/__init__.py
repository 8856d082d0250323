"""Every source of examples we ship. To add one: write the module, list it here."""

from __future__ import annotations

from hocket.learn.data.digits import Digits
from hocket.learn.data.examples import Examples, Split
from hocket.learn.data.folder import Folder
from hocket.learn.data.function import Function
from hocket.learn.data.lookup import Lookup
from hocket.learn.data.normalisation import Normalisation
from hocket.learn.data.npz import Npz
from hocket.learn.data.parquet import Parquet
from hocket.learn.data.partition import AnyPartition, Dirichlet, Iid, Whole
from hocket.learn.data.source import Source, load

AnySource = Digits | Folder | Function | Npz | Parquet

__all__ = [
    "AnyPartition",
    "AnySource",
    "Digits",
    "Dirichlet",
    "Examples",
    "Folder",
    "Function",
    "Iid",
    "Lookup",
    "Normalisation",
    "Npz",
    "Parquet",
    "Source",
    "Split",
    "Whole",
    "load",
]
