"""A trained model as something that predicts: `load_model("name@alias").predict(array)`."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from udt_cluster.errors import CorruptError, DataError, UsageError
from udt_cluster.evaluation.pipeline import RawToMask
from udt_cluster.evaluation.spec import ModelSpec, read_folder, read_weights, write_folder
from udt_cluster.models import build_model, output_channels
from udt_cluster.storage import Location

_REGISTERED = re.compile(r"(models:/)?[^/@:\s]+(@[^/@:\s]+|/\d+)")
_FORMS = '"name@alias", "name/3", "models:/name@alias", "models:/name/3", or the folder of a model (a path or s3://...)'


class SegmentationModel:
    """One network or an ensemble of them, with all that lies between raw numbers and a mask.

    Args:
        spec: The model's description.
        members: Networks that fit it; they are moved to the device and put in evaluation mode.
        device: Where to predict.
    """

    def __init__(self, spec: ModelSpec, members: Sequence[nn.Module], *, device: str | torch.device = "cpu") -> None:
        if not members:
            raise UsageError("a model has at least one member; got none")
        self.spec = spec
        self.device = torch.device(device)
        self.pipeline = RawToMask(spec, members).to(self.device).eval().requires_grad_(False)

    @classmethod
    def from_folder(cls, folder: Path | str, *, device: str | torch.device = "cpu") -> Self:
        """Load a model folder (see :mod:`udt_cluster.evaluation.spec`).

        Raises:
            UsageError: there is no model in the folder.
            VersionError: the folder has another version of the format.
            CorruptError: a file is missing or changed, or the weights do not fit the description.
        """
        spec, weights = read_folder(Path(folder))
        return cls(spec, [_build(spec, state) for state in weights], device=device)

    @classmethod
    def from_folders(cls, folders: Sequence[Path | str], *, device: str | torch.device = "cpu") -> Self:
        """Load several model folders as one ensemble; their lineages are kept under "members".

        Raises:
            DataError: the models differ in more than weights and lineage, so that no mean of them makes sense.
            UsageError, VersionError, CorruptError: as :meth:`from_folder`.
        """
        models = [cls.from_folder(folder) for folder in folders]
        if not models:
            raise UsageError("an ensemble has at least one model; got none")
        if len(models) == 1:
            return cls(models[0].spec, models[0].networks, device=device)
        shared = [replace(model.spec, lineage={}) for model in models]
        if odd := [f"{folder}" for folder, spec in zip(folders, shared, strict=True) if spec != shared[0]]:
            raise DataError(f"these models differ from {folders[0]} in more than weights", odd)
        lineage = {"members": [dict(model.spec.lineage) for model in models]}
        members = [network for model in models for network in model.networks]
        return cls(replace(shared[0], lineage=lineage), members, device=device)

    @classmethod
    def from_weights(cls, spec: ModelSpec, files: Sequence[Path], *, device: str | torch.device = "cpu") -> Self:
        """A model of safetensors files with our parameter names, as checkpoints have; one file per member.

        Raises:
            CorruptError: a file is no safetensors file, or its weights do not fit the description.
        """
        return cls(spec, [_build(spec, read_weights(file)) for file in files], device=device)

    def save_folder(self, folder: Path | str) -> None:
        """Write the model to a new folder: ``spec.json`` and one safetensors file per member, no pickle.

        Raises:
            UsageError: something lies in the folder already.
        """
        write_folder(Path(folder), self.spec, [network.state_dict() for network in self.networks])

    @property
    def networks(self) -> list[nn.Module]:
        """The members of the ensemble; one for a single model."""
        return list(self.pipeline.members)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index, "background" first."""
        return self.spec.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes, the background counted."""
        return self.spec.num_classes

    def predict(self, array: npt.ArrayLike, *, batch_size: int = 8) -> npt.NDArray[np.uint8]:
        """Segment raw images of any size.

        A model with neighbouring slices as channels (``spec.context_slices``) takes a batch for one volume: pass all
        its slices at once, in order. A slice that is passed alone stands in for its own neighbours.

        Args:
            array: (H, W) for one channel, (H, W, C), or (B, H, W, C); raw values as they are in the files, any integer
                or float type. The slices of a volume (D, H, W) are a batch: pass ``volume[..., None]``.
            batch_size: Images per forward pass.

        Returns:
            Class indices of the input's own size, without the channel axis: (H, W) or (B, H, W), uint8.

        Raises:
            DataError: wrong number of axes or channels, no numbers, NaN or infinity, values that the model's images
                cannot have.
        """
        images_BHWC, is_batch = self._as_images(array)
        height, width = images_BHWC.shape[1:3]
        masks = np.empty((len(images_BHWC), height, width), np.uint8)
        with torch.inference_mode():
            for part, p_BKhw in self._predicted(images_BHWC, batch_size, self.pipeline.samples):
                masks[part] = self.pipeline.masks(p_BKhw, (height, width)).cpu().numpy()
        return masks if is_batch else masks[0]

    def predict_probabilities(self, array: npt.ArrayLike, *, batch_size: int = 8) -> npt.NDArray[np.float32]:
        """Probability of each class, the background first, at the input's own size.

        Args:
            array: As for :meth:`predict`, whose masks are the argmax of what this returns.
            batch_size: Images per forward pass.

        Returns:
            (num_classes, H, W) or (B, num_classes, H, W) float32; the classes of a pixel sum to 1.

        Raises:
            DataError: as for :meth:`predict`.
        """
        images_BHWC, is_batch = self._as_images(array)
        count, height, width = images_BHWC.shape[:3]
        result = np.empty((count, self.num_classes, height, width), np.float32)
        with torch.inference_mode():
            for part, p_BKhw in self._predicted(images_BHWC, batch_size, self.pipeline.samples):
                p_BKHW = self.pipeline.restore(p_BKhw, (height, width))
                result[part] = (torch.cat([1 - p_BKHW, p_BKHW], 1) if p_BKHW.shape[1] == 1 else p_BKHW).cpu().numpy()
        return result if is_batch else result[0]

    def predict_samples(
        self, samples_NChw: npt.ArrayLike, *, native_size: tuple[int, int], batch_size: int = 8
    ) -> npt.NDArray[np.uint8]:
        """Segment samples of a training store (N, C, h, w), which are resized already; masks (N, H, W) at native size.

        Args:
            samples_NChw: As they are stored; all slices of one case, in order, for a model with neighbouring slices.
            native_size: (H, W) of the masks.
            batch_size: Samples per forward pass.

        Raises:
            DataError: the samples do not have the channels and the size that the model was trained on.
        """
        samples = np.asarray(samples_NChw)
        expected = (self.spec.image_channels, *self.spec.size)
        if samples.shape[1:] != expected:
            raise DataError(
                f"the store's samples are (C, H, W) = {samples.shape[1:]}, the model's {expected}; "
                "score a model on a store that was prepared with the same data.size"
            )
        masks = np.empty((len(samples), *native_size), np.uint8)
        with torch.inference_mode():
            for part, p_BKhw in self._predicted(samples, batch_size):
                masks[part] = self.pipeline.masks(p_BKhw, native_size).cpu().numpy()
        return masks

    def _predicted(
        self, array: npt.NDArray[Any], batch_size: int, to_samples: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Probabilities (B, K, h, w) batch by batch; a batch is read with the neighbours that lie in other batches."""
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        for start in range(0, len(array), batch_size):
            part = slice(start, min(start + batch_size, len(array)))
            first = max(0, part.start - self.spec.context_slices)
            read = np.array(array[first : part.stop + self.spec.context_slices], np.float32, order="C")
            raw = torch.from_numpy(read).to(self.device)
            inputs = self.pipeline.inputs(raw if to_samples is None else to_samples(raw))
            yield part, self.pipeline.probabilities(inputs[part.start - first : part.stop - first])

    def _as_images(self, array: npt.ArrayLike) -> tuple[npt.NDArray[Any], bool]:
        """Checked raw images as (B, H, W, C), and whether they came as a batch."""
        images = np.asarray(array)
        if images.dtype.kind not in "uif":
            raise DataError(f"the image is {images.dtype}; integers and floats are allowed")
        channels = self.spec.image_channels
        if images.ndim not in (2, 3, 4) or 0 in images.shape:
            raise DataError(f"the image has the shape {images.shape}; allowed: (H, W), (H, W, C) and (B, H, W, C)")
        is_batch = images.ndim == 4
        images_BHWC = images[..., None] if images.ndim == 2 else images
        images_BHWC = images_BHWC if is_batch else images_BHWC[None]
        if images_BHWC.shape[-1] != channels:
            hint = "; the slices of a volume are a batch: pass volume[..., None]" if channels == 1 else ""
            raise DataError(
                f"the image has the shape {images.shape}, so {images_BHWC.shape[-1]} channels on the last axis; "
                f"the model takes {channels}{hint}"
            )
        _check_values(images_BHWC, self.spec)
        return images_BHWC, is_batch


def load_model(uri: str | Path, *, device: str | torch.device = "auto") -> SegmentationModel:
    """Load a registered model, or a model folder.

    Args:
        uri: "name@alias", "name/3", "models:/name@alias" or "models:/name/3" (MLflow at ``MLFLOW_TRACKING_URI``, or the
            local target's), or the folder of a model: a path, ``file://`` or ``s3://``.
        device: Where to predict; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        UsageError: the URI has another form, or there is no such model or alias.
        VersionError: the model has another version of the format.
        CorruptError: a file is missing or changed.
        TrackingUnreachableError, StorageUnreachableError, AuthError: as their names say.
    """
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if Path(uri).is_dir():
        return SegmentationModel.from_folder(uri, device=where)
    with tempfile.TemporaryDirectory(prefix="udt-model-") as temporary:
        return SegmentationModel.from_folder(_fetch(str(uri), Path(temporary)), device=where)


def _fetch(uri: str, folder: Path) -> Path:
    """Copy the model that a URI names into a folder; says where in it the model lies."""
    if _REGISTERED.fullmatch(uri):
        from udt_cluster.tracking import download  # mlflow: seconds, and not needed for folders

        return download(uri, folder)
    if not uri.startswith(("s3://", "file://")):
        raise UsageError(f"{uri!r} is not a model: there is no such folder. Allowed: {_FORMS}")
    location = Location.parse(uri)
    entries = location.entries()
    if not entries:
        raise UsageError(f"{location} is not a model folder: nothing is there. Allowed: {_FORMS}")
    for entry in entries:
        (folder / entry.key).parent.mkdir(parents=True, exist_ok=True)
        (location / entry.key).download(folder / entry.key)
    return folder


def _build(spec: ModelSpec, state: dict[str, Tensor]) -> nn.Module:
    config = spec.model.model_copy(update={"pretrained": "none"})  # all weights are in the folder
    channels = output_channels(spec.num_classes)
    network = build_model(config, in_channels=spec.in_channels, num_classes=channels)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptError(f"the weights do not fit a {config.architecture} as described: {error}") from error
    return network


def _check_values(images: npt.NDArray[Any], spec: ModelSpec) -> None:
    """Refuse numbers that the model's training images cannot have had: a wrong scale gives a wrong mask silently."""
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("the image has NaN or infinite values; replace them before predicting")
    if not spec.is_integer:
        return
    limits = np.iinfo(spec.dtype)
    if low < limits.min or high > limits.max:
        raise DataError(
            f"the image has values from {low:g} to {high:g}; the model was trained on {spec.dtype} "
            f"({limits.min}..{limits.max}): pass the numbers as they are in the files"
        )
    if spec.dtype == "uint8" and images.dtype.kind == "f" and 0 < high <= 1 and bool((images % 1 != 0).any()):
        raise DataError("the image has fractions from 0 to 1; the model was trained on 0..255: multiply by 255")
