"""Which layouts of files there are, and which settings each of them listens to."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

ENTRY_POINT_GROUP = "udt_cluster.adapters"
"""Entry points of this group add adapters: the name as it stands in `data.adapter`, the value an adapter class."""

BUILT_IN = (
    "acdc",
    "arrays",
    "covid19",
    "dicom",
    "glas",
    "image_folder",
    "isic2018",
    "monuseg",
    "nifti",
    "synapse",
)
PATIENTS_UNKNOWN = frozenset({"arrays", "covid19", "image_folder", "isic2018", "nifti"})
"""Layouts that never say which images are of one patient: `data.group_by` has to."""

OPTIONS: Mapping[str, frozenset[str]] = {
    "pairs": frozenset({"image_folder", "nifti", "dicom"}),
    "label_values": frozenset({"image_folder", "nifti", "dicom", "arrays"}),
    "label_colors": frozenset({"image_folder"}),
    "arrays": frozenset({"arrays"}),
    "tiles": frozenset({"image_folder", "monuseg"}),
    "slice_axis": frozenset({"nifti"}),
    "labels": frozenset({"covid19"}),
}
"""Settings of `data` that only some of the built-in adapters know; adapters of third parties may use all."""

_CLASS_COUNTS: Mapping[str, int] = {"acdc": 3, "glas": 1, "isic2018": 1, "monuseg": 1, "synapse": 8}


def class_count(adapter: str, labels: str) -> int | None:
    """Foreground classes of a built-in data set, given `data.labels`; None where they follow from `data.classes`."""
    if adapter == "covid19":
        return 2 if labels == "multi_class" else 1
    return _CLASS_COUNTS.get(adapter)


@cache
def known_adapters() -> tuple[str, ...]:
    """Names allowed in `data.adapter`, those of installed packages included."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def _known(name: object) -> object:
    if name not in known_adapters():
        allowed = ", ".join(repr(adapter) for adapter in known_adapters())
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": allowed})
    return name


AdapterName = Annotated[
    str,
    BeforeValidator(_known),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": list(BUILT_IN)}, {"type": "string"}]}),
]
