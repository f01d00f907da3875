"""Which checkpoints are kept, and the deletion of the others."""

from collections.abc import Iterable

from udt_cluster.storage import COMMIT_NAME, Location
from udt_cluster.training.catalog import Checkpoint, CheckpointCatalog, list_folders


def retained(checkpoints: Iterable[Checkpoint], keep: int) -> set[str]:
    """Names of the folders to keep: the last, the best epoch's, and the `keep` newest of the others.

    Where the last is the best as well, the one before it stays: there is always a second to fall back on.
    """
    newest_first = sorted(checkpoints, key=lambda c: c.order, reverse=True)
    names = [checkpoint.name for checkpoint in newest_first]
    epochs = [checkpoint for checkpoint in newest_first if checkpoint.info.kind == "epoch"]
    best = [max(epochs, key=lambda c: c.quality).name] if epochs else []
    always = {*names[:1], *best}
    others = [name for name in names if name not in always]
    return always | set(others[: max(keep, 2 - len(always))])


def collect(catalog: CheckpointCatalog, *, attempt: int, keep: int) -> None:
    """Delete what is not retained, and what broken-off uploads and deletions have left, of this and older attempts.

    Raises:
        UdtError: the storage does not answer, or forbids it; what has been deleted by then is deleted.
    """
    kept = retained(catalog.committed(), keep)
    for folder in list_folders(catalog.root).values():
        if folder.name not in kept and folder.attempt <= attempt:
            _delete(catalog.root / folder.name)


def _delete(folder: Location) -> None:
    (folder / COMMIT_NAME).delete()  # first: what is left of a broken-off deletion is no checkpoint
    folder.delete_tree()
