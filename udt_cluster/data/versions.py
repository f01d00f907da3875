"""The versions of data sets that a storage has: where they lie, which there are, and how they are removed.

``<storage>/data/<dataset>/<version>/`` is a store (or one that is being written), ``<storage>/staging/<dataset>/`` has
what preparations of the data set have done so far.
"""

from udt_cluster.storage import Location


def version_root(storage: Location, dataset: str, version: str) -> Location:
    """Where a version lies."""
    return storage / "data" / dataset / version


def staging_root(storage: Location, dataset: str) -> Location:
    """Where preparations of a data set keep what they have done."""
    return storage / "staging" / dataset
