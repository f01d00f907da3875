"""Prepared data: the on-disk contract, its reader, geometry and normalisation; splits and loaders beside them.

`render_preview` is imported when it is first asked for: matplotlib is nothing that a training worker needs.
"""

from typing import TYPE_CHECKING, Any

from udt_cluster.data.cache import SampleCache
from udt_cluster.data.loader import Batch, EvalBatch, EvalLoader, TrainLoader
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.schema import CaseTable, Fingerprint, StoreInfo
from udt_cluster.data.splits import Fold, Splits, load_splits, make_splits, save_splits
from udt_cluster.data.store import DataStore

if TYPE_CHECKING:
    from udt_cluster.data.preview import render_preview

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
    "load_splits",
    "make_splits",
    "render_preview",
    "save_splits",
]


def __getattr__(name: str) -> Any:
    """Import `render_preview` on first use (PEP 562)."""
    if name != "render_preview":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from udt_cluster.data.preview import render_preview

    globals()[name] = render_preview
    return render_preview
