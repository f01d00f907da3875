"""One small file per layout that data sets come in; :func:`get` finds the adapter of a job."""

from data_prep.adapters.acdc import Acdc
from data_prep.adapters.glas import Glas
from data_prep.adapters.image_folder import ImageFolder
from data_prep.case import Adapter
from udt_cluster.errors import DataError

_ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in (Acdc(), Glas(), ImageFolder())}


def get(name: str) -> Adapter:
    """The adapter of a name as it stands in `data.adapter`.

    Raises:
        DataError: there is none; lists those there are.
    """
    if name not in _ADAPTERS:
        raise DataError(f"data.adapter: there is no {name!r}. Allowed: {', '.join(sorted(_ADAPTERS))}")
    return _ADAPTERS[name]


__all__ = ["get"]
