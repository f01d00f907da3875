"""What a model's folder says about itself: everything needed to go from raw numbers to a mask, but the weights.

A model folder holds ``spec.json`` and one ``model_<n>.safetensors`` per member of the ensemble. ``spec.json`` names the
SHA-256 of every weights file, so that a folder is complete or it is not a model. No pickle is involved.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic
import safetensors
import safetensors.torch
from torch import Tensor

from udt_cluster.config.job import ModelConfig
from udt_cluster.data import Normalization, StoreInfo
from udt_cluster.errors import CorruptError, UsageError, VersionError

SPEC_NAME = "spec.json"
SPEC_VERSION = 2
"""Version of the folder's format; raised when a reader of today could misread a folder of tomorrow. 2 knows
neighbouring slices and stain normalisation."""
_READABLE = (1, SPEC_VERSION)

_Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model without its weights.

    Attributes:
        model: Architecture and its settings, as in the job.
        in_channels: Channels of the network's input: of an image, times 2 n + 1 with n neighbours on each side.
        class_names: Names by class index, "background" first.
        size: (h, w) in pixels that the network sees; images of any size are brought to it and back.
        resize: How they are (:mod:`udt_cluster.data.geometry`).
        dtype: Precision of the images that it was trained on ("uint8"). Whole numbers are rounded after resizing, as
            they were in the training store.
        normalization: What turns raw numbers into network inputs; of all `in_channels`.
        context_slices: Neighbouring slices on each side that are channels of the input: such a model takes the slices
            of one volume at a time, and puts the neighbours together itself.
        lineage: Where the model comes from (job hash, data version, run id, ...), for people and for tags.
    """

    model: ModelConfig
    in_channels: int
    class_names: tuple[str, ...]
    size: tuple[int, int]
    resize: Literal["stretch", "pad"]
    dtype: str
    normalization: Normalization
    context_slices: int = 0
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def for_store(
        cls,
        model: ModelConfig,
        info: StoreInfo,
        *,
        normalization: Normalization,
        lineage: Mapping[str, Any] | None = None,
    ) -> Self:
        """The spec of a model that is trained on a store, with as many neighbouring slices as the normalisation is for.

        Args:
            model: Architecture and its settings.
            info: Of the store.
            normalization: As :func:`udt_cluster.data.normalization_for` makes it.
            lineage: Where the model comes from.
        """
        return cls(
            model=model,
            in_channels=info.channels * (2 * normalization.context_slices + 1),
            context_slices=normalization.context_slices,
            class_names=tuple(info.class_names),
            size=info.size,
            resize=info.resize,
            dtype=info.dtype,
            normalization=normalization,
            lineage=dict(lineage or {}),
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, the background counted."""
        return len(self.class_names)

    @property
    def image_channels(self) -> int:
        """Channels of one image, without its neighbours'."""
        return self.in_channels // (2 * self.context_slices + 1)

    @property
    def is_integer(self) -> bool:
        """Whether the training images hold whole numbers."""
        return bool(np.issubdtype(np.dtype(self.dtype), np.integer))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        return {
            "schema_version": SPEC_VERSION,
            "model": self.model.model_dump(mode="json"),
            "in_channels": self.in_channels,
            "class_names": list(self.class_names),
            "size": list(self.size),
            "resize": self.resize,
            "dtype": self.dtype,
            "normalization": self.normalization.to_dict(),
            "context_slices": self.context_slices,
            "lineage": dict(self.lineage),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            VersionError: another version of the format.
            CorruptError: a field is missing or makes no sense.
        """
        if (version := values.get("schema_version")) not in _READABLE:
            allowed = " and ".join(map(str, _READABLE))
            raise VersionError(
                f"the model's {SPEC_NAME} has schema_version {version!r}; this udt-cluster reads {allowed}. "
                "Use the udt-cluster that registered the model, or register it again with this one."
            )
        try:
            return cls(
                model=ModelConfig.model_validate(values["model"]),
                in_channels=int(values["in_channels"]),
                class_names=tuple(values["class_names"]),
                size=(int(values["size"][0]), int(values["size"][1])),
                resize=values["resize"],
                dtype=str(np.dtype(values["dtype"])),
                normalization=Normalization.from_dict(values["normalization"]),
                context_slices=int(values.get("context_slices", 0)),
                lineage=dict(values["lineage"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, pydantic.ValidationError) as error:
            raise CorruptError(f"the model's {SPEC_NAME} cannot be read: {type(error).__name__}: {error}") from error


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes the place of `folder` when all is written, and vanishes when something fails.

    Raises:
        UsageError: something lies in `folder` already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; give a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CorruptError: it is none.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, FileNotFoundError) as error:
        raise CorruptError(f"{path} cannot be read as safetensors: {error}") from error
    return tensors


def write_folder(folder: Path, spec: ModelSpec, weights: Sequence[_Weights]) -> None:
    """Write a model folder, invisible until complete.

    Args:
        folder: Must not exist, or be empty.
        spec: The model's description.
        weights: One state dict per member.

    Raises:
        UsageError: there are no weights, or something lies in the folder already.
    """
    if not weights:
        raise UsageError("a model has at least one member; got no weights")
    with complete_folder(folder) as root:
        members = [_write_member(root / f"model_{index}.safetensors", state) for index, state in enumerate(weights)]
        text = json.dumps(spec.to_dict() | {"members": members}, indent=2, sort_keys=True)
        (root / SPEC_NAME).write_text(text + "\n", encoding="utf-8")


def read_folder(folder: Path) -> tuple[ModelSpec, list[dict[str, Tensor]]]:
    """Read a model folder, every file checked against its SHA-256.

    Args:
        folder: A model folder, or a registered model's, which has one in ``udt/``.

    Raises:
        UsageError: there is no model in the folder.
        VersionError: the folder has another version of the format.
        CorruptError: a file is missing, truncated or changed.
    """
    root = next((place for place in (folder, folder / "udt") if (place / SPEC_NAME).is_file()), None)
    if root is None:
        raise UsageError(f"{folder} is not a model folder: it has no {SPEC_NAME}")
    values = _read_json(root / SPEC_NAME)
    spec = ModelSpec.from_dict(values)
    members = values.get("members")
    if not isinstance(members, list) or not members:
        raise CorruptError(f"{root / SPEC_NAME} lists no members; the folder was not written by udt-cluster")
    return spec, [_read_member(root, member) for member in members]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CorruptError(f"{path} holds a {type(values).__name__}, not the description of a model")
    return values


def _write_member(path: Path, state: _Weights) -> dict[str, Any]:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(tensors, path)
    return {"file": path.name, "size": path.stat().st_size, "sha256": _sha256(path)}


def _read_member(root: Path, member: Any) -> dict[str, Tensor]:
    name = member.get("file") if isinstance(member, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise CorruptError(f"{root / SPEC_NAME} names {name!r} as weights; a plain file name is allowed")
    path = root / name
    if not path.is_file():
        raise CorruptError(f"{path} is missing; copy the whole folder again")
    if path.stat().st_size != member.get("size") or _sha256(path) != member.get("sha256"):
        raise CorruptError(f"{path} is not the file that {SPEC_NAME} describes; copy the whole folder again")
    return read_weights(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
