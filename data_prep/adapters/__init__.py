"""One small file per layout that data sets come in; :func:`get` finds the adapter of a job.

An adapter of a third party is an entry point of the group `udt_cluster.adapters` whose value is an
:class:`data_prep.case.Adapter`, or a class of one::

    [project.entry-points."udt_cluster.adapters"]
    our_scanner = "our_package.adapters:OurScanner"
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from data_prep.case import Adapter
from udt_cluster.config.adapters import BUILT_IN, ENTRY_POINT_GROUP, known_adapters
from udt_cluster.errors import DataError


@cache
def get(name: str) -> Adapter:
    """The adapter of a name as it stands in `data.adapter`; its module is imported now.

    Raises:
        DataError: there is none, or the package that offers it cannot be imported.
    """
    if name in BUILT_IN:
        adapter: Adapter = import_module(f"{__name__}.{name}").ADAPTER
        return adapter
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        raise DataError(f"data.adapter: there is no {name!r} here. Allowed: {', '.join(known_adapters())}")
    try:
        found = points[name].load()
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"data.adapter: {name!r} is offered by {points[name].value}, which cannot be imported: {error}"
        ) from error
    foreign: Adapter = found() if isinstance(found, type) else found
    return foreign


__all__ = ["get"]
