"""What a prepared data set is and how it is read: the store, its splits, the loaders.

Every name is imported when it is first asked for (PEP 562): to look up whether a version exists needs no torch, and a
training worker no matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udt_cluster.data.cache import SampleCache as SampleCache
    from udt_cluster.data.loader import Batch as Batch
    from udt_cluster.data.loader import EvalBatch as EvalBatch
    from udt_cluster.data.loader import EvalLoader as EvalLoader
    from udt_cluster.data.loader import TrainLoader as TrainLoader
    from udt_cluster.data.normalization import Normalization as Normalization
    from udt_cluster.data.normalization import normalization_for as normalization_for
    from udt_cluster.data.preview import render_preview as render_preview
    from udt_cluster.data.schema import CaseTable as CaseTable
    from udt_cluster.data.schema import Fingerprint as Fingerprint
    from udt_cluster.data.schema import StoreInfo as StoreInfo
    from udt_cluster.data.splits import Fold as Fold
    from udt_cluster.data.splits import Splits as Splits
    from udt_cluster.data.splits import load_splits as load_splits
    from udt_cluster.data.splits import make_splits as make_splits
    from udt_cluster.data.splits import save_splits as save_splits
    from udt_cluster.data.store import DataStore as DataStore
    from udt_cluster.data.versions import collect as collect
    from udt_cluster.data.versions import list_versions as list_versions
    from udt_cluster.data.versions import remove_version as remove_version

_HOMES = {
    "cache": ("SampleCache",),
    "loader": ("Batch", "EvalBatch", "EvalLoader", "TrainLoader"),
    "normalization": ("Normalization", "normalization_for"),
    "preview": ("render_preview",),
    "schema": ("CaseTable", "Fingerprint", "StoreInfo"),
    "splits": ("Fold", "Splits", "load_splits", "make_splits", "save_splits"),
    "store": ("DataStore",),
    "versions": ("collect", "list_versions", "remove_version"),
}

__all__ = [
    "Batch",
    "CaseTable",
    "DataStore",
    "EvalBatch",
    "EvalLoader",
    "Fingerprint",
    "Fold",
    "Normalization",
    "SampleCache",
    "Splits",
    "StoreInfo",
    "TrainLoader",
    "collect",
    "list_versions",
    "load_splits",
    "make_splits",
    "normalization_for",
    "remove_version",
    "render_preview",
    "save_splits",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
