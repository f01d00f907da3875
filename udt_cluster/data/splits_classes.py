"""Which cases have which classes, as the stored labels say; and folds whose training cases lack one."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from udt_cluster.data.schema import CaseTable, StoreInfo
from udt_cluster.data.splits_schemes import Fold
from udt_cluster.errors import DataError

Presence = npt.NDArray[np.bool_]


class LabelledStore(Protocol):
    """What is read of a DataStore."""

    cases: CaseTable
    info: StoreInfo
    sample_case: npt.NDArray[np.int32]
    sample_foreground: npt.NDArray[np.int32]
    labels: Any
    """[N, H, W], read a shard at a time."""


def class_presence(store: LabelledStore) -> Presence:
    """(M, K) whether any stored label of a case has a class; the background counts as present.

    One foreground class follows from the store's table, several are read shard by shard.
    """
    presence = _nothing(store)
    for _ in _read_into(presence, store):
        pass
    return presence


def refuse_absent_classes(store: LabelledStore, folds: Sequence[Fold]) -> None:
    """Refuse folds whose training cases have not one pixel of a class: nothing could learn it.

    Shards are read only until every class was seen in every fold, of most data sets the first few.

    Raises:
        DataError: ``problems`` names each such fold and class.
    """
    presence = _nothing(store)
    training = [np.asarray(fold.train, np.int64) for fold in folds]
    for _ in _read_into(presence, store):
        if all(presence[cases].any(axis=0).all() for cases in training):
            return
    problems = [
        f"fold {number}: no training case has class {store.info.class_names[missing]!r}"
        for number, cases in enumerate(training)
        for missing in np.flatnonzero(~presence[cases].any(axis=0))
    ]
    if problems:
        raise DataError(
            "data.splits: a class that no training case has cannot be learned. Leave it out of data.classes, add cases "
            "that have it, or share them out with data.splits.scheme: stratified_group_kfold",
            problems,
        )


def _nothing(store: LabelledStore) -> Presence:
    presence = np.zeros((len(store.cases.ids), len(store.info.class_names)), bool)
    presence[:, 0] = True
    return presence


def _read_into(presence: Presence, store: LabelledStore) -> Iterator[None]:
    """Fill in the presence, and pause after every step."""
    classes = presence.shape[1]
    if classes == 2:
        presence[store.sample_case[store.sample_foreground > 0], 1] = True
        yield
        return
    step = store.info.shard_samples
    for start in range(0, len(store.sample_case), step):
        if not store.sample_foreground[start : start + step].any():
            continue
        labels = np.asarray(store.labels[start : start + step])
        owners = store.sample_case[start : start + step]
        for value in range(1, classes):
            presence[owners[(labels == value).any(axis=(1, 2))], value] = True
        yield
