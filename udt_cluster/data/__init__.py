"""Prepared data: the on-disk contract, its reader, geometry and normalisation; splits and loaders beside them."""

from udt_cluster.data.normalization import Normalization
from udt_cluster.data.schema import CaseTable, Fingerprint, StoreInfo
from udt_cluster.data.store import DataStore

__all__ = ["CaseTable", "DataStore", "Fingerprint", "Normalization", "StoreInfo"]
