"""From the files of a data set to one committed Zarr store: adapters, readers, the writer. Knows no Ray."""

from data_prep.executor import Died, Executor, InProcessExecutor
from data_prep.file_index import FileIndex
from data_prep.prepare import Prepared, choose_groups, find_version, prepare

__all__ = ["Died", "Executor", "FileIndex", "InProcessExecutor", "Prepared", "choose_groups", "find_version", "prepare"]
