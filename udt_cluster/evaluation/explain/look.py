"""A few cases as pictures: the masks under every change, and where the object's tokens look."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from udt_cluster.data import DataStore, geometry
from udt_cluster.evaluation.explain.attention import PlaceMap, object_tokens, place_maps, token_at
from udt_cluster.evaluation.explain.changes import Change, changes_of
from udt_cluster.evaluation.explain.effect import CaseEffect
from udt_cluster.evaluation.explain.measure import case_inputs, masks
from udt_cluster.evaluation.explain.network import Attention, Network, asked, replaced, skip_kinds
from udt_cluster.evaluation.explain.settings import ExplainSettings
from udt_cluster.evaluation.figures import displayed
from udt_cluster.evaluation.metrics import Mask
from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.pipeline import as_probabilities
from udt_cluster.evaluation.score import case_samples
from udt_cluster.models.layers import STRIDE

Picture = npt.NDArray[np.float32]
BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CaseLook:
    """One slice of one case. All pictures and masks are (H, W) at native size, turned as radiologists see them.

    Attributes:
        case: Id.
        why: Why it is shown: "worst", "best", "between".
        dice: Of the whole case; NaN where undefined.
        slice: Index of the slice, and how many there are.
        aspect: Height of a pixel over its width.
        picture: (H, W, 3) RGB, 0..1.
        reference: Class indices.
        intact: Class indices that the network predicts.
        zeroed: The same under each change that zeroes skips.
        drops: By how much Dice of the whole case falls under each.
        class_index: The object whose attention is shown.
        place: Pixels of the tokens that ask.
        chosen: What these tokens are, in words.
        maps: Their attention.
        overlays: Each map at native size, in the order of `maps`.
    """

    case: str
    why: str
    dice: float
    slice: tuple[int, int]
    aspect: float
    picture: Picture
    reference: Mask
    intact: Mask
    zeroed: dict[Change, Mask]
    drops: dict[Change, float]
    class_index: int
    place: BoolMask
    chosen: str
    maps: list[PlaceMap] = field(default_factory=list)
    overlays: list[Picture] = field(default_factory=list)


def choose_cases(effects: Sequence[CaseEffect], number: int) -> dict[str, str]:
    """Which cases are shown: the worst, the best, and some at even ranks between, by Dice; id -> why."""
    dice = {effect.case: effect.values(None)[0] for effect in effects}
    ranked = sorted((case for case in dice if not math.isnan(dice[case])), key=lambda case: dice[case])
    if not ranked or number < 1:
        return {}
    steps = max(min(number, len(ranked)) - 1, 1)
    places = sorted({round(step * (len(ranked) - 1) / steps) for step in range(min(number, len(ranked)))})
    if number == 1:
        return {ranked[len(ranked) // 2]: "median"}
    names = {places[0]: "worst", places[-1]: "best"}
    return {ranked[place]: names.get(place, "between") for place in places}


class CaseViewer:
    """Draws cases through one network of a model.

    Args:
        model: Whose.
        network: The network.
        store: Where the cases are.
        settings: What is chosen.
    """

    def __init__(self, model: SegmentationModel, network: Network, store: DataStore, settings: ExplainSettings) -> None:
        self._model, self._network, self._store, self._settings = model, network, store, settings

    def look(self, case: int, *, why: str, effects: Sequence[CaseEffect]) -> CaseLook:
        """One case; `effects` are all of its own."""
        inputs, reference = case_inputs(self._model, self._store, case), self._store.native_label(case)
        native = (reference.shape[1], reference.shape[2])
        predicted = self._predicted(inputs, native)
        index = self._class_of(predicted, reference)
        slice_ = _fullest(predicted == index, reference == index)
        image = inputs[slice_ : slice_ + 1]
        grid = (image.shape[2] // STRIDE, image.shape[3] // STRIDE)
        probabilities, attentions, zeroed = self._pass(image, native)
        place, chosen = self._place(probabilities, index, native)
        maps = place_maps(self._network, attentions, place, grid)
        look = CaseLook(
            case=self._store.cases.ids[case],
            why=why,
            dice=effects[0].values(None)[0],
            slice=(slice_, len(reference)),
            aspect=self._aspect(case),
            picture=displayed(case_samples(self._store, case)[slice_], native, self._model.spec.resize),
            reference=reference[slice_],
            intact=predicted[slice_],
            zeroed=zeroed,
            drops={effect.change: effect.drop() for effect in effects},
            class_index=index,
            place=self._native(place.reshape(grid).cpu(), native) > 0.5,
            chosen=chosen,
            maps=maps,
            overlays=[self._native(torch.from_numpy(found.grid), native) for found in maps],
        )
        is_volume = len(reference) > 1
        return _turned(look) if is_volume and np.isfinite(self._store.cases.affine[case]).all() else look

    def _predicted(self, inputs: Tensor, native: tuple[int, int]) -> Mask:
        batches = torch.split(inputs, self._settings.batch_size)
        return np.concatenate([masks(self._model, self._network(batch), native) for batch in batches])

    def _pass(self, image: Tensor, native: tuple[int, int]) -> tuple[Tensor, list[Attention], dict[Change, Mask]]:
        """Probabilities of one slice (1, K, h, w), what its attentions were asked, and its masks without skips."""
        with asked(self._network) as attentions:
            features, tokens = self._network.encode(image)
            probabilities = as_probabilities(self._network.decode(features, tokens))
        zeroed = {}
        for change in changes_of(tuple(skip_kinds(self._network)), shuffled=False):
            with replaced(self._network, change.instead({})):
                zeroed[change] = masks(self._model, self._network.decode(features, tokens), native)[0]
        return probabilities, attentions, zeroed

    def _class_of(self, predicted: Mask, reference: Mask) -> int:
        """The class that was asked for, or the one that covers most of the prediction (of the reference, if none)."""
        names = self._model.class_names
        if self._settings.class_name is not None:
            return names.index(self._settings.class_name)
        shown = predicted if (predicted > 0).any() else reference
        counts = np.bincount(shown[shown > 0].ravel(), minlength=len(names))
        return int(counts.argmax()) or 1

    def _place(self, probabilities: Tensor, index: int, native: tuple[int, int]) -> tuple[Tensor, str]:
        """The tokens that ask, (N,) bool, and what they are in words."""
        height, width = probabilities.shape[2:]
        grid = (height // STRIDE, width // STRIDE)
        if self._settings.at is not None:
            row, column = self._settings.at
            if self._model.spec.resize == "pad":
                padded = geometry.padded_size(*native, (height, width))
                row, column = row * native[0] / padded[0], column * native[1] / padded[1]
            where = f"the token at {self._settings.at[0]:.0%} of the height, {self._settings.at[1]:.0%} of the width"
            return token_at((row, column), grid, device=probabilities.device), where
        single = probabilities.shape[1] == 1
        found = self._model.pipeline.masks(probabilities, (height, width))[0] == index
        probability = probabilities[0, 0 if single else index]
        name = self._model.class_names[index]
        tokens = object_tokens(found, probability, grid)
        if found.any():
            return tokens, f"the tokens of the predicted {name}"
        return tokens, f"the token where {name} is most probable, since none was predicted"

    def _native(self, grid: Tensor, native: tuple[int, int]) -> Picture:
        """Values of tokens, each on the pixels of its patch, at native size."""
        patches = grid.to(torch.float32).repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)
        restored: Picture = geometry.restore(patches[None, None], native, self._model.spec.resize)[0, 0].numpy()
        return restored

    def _aspect(self, case: int) -> float:
        height, width = (float(size) for size in self._store.cases.spacing[case][1:])
        return height / width if math.isfinite(height) and math.isfinite(width) else 1.0


def _fullest(predicted: BoolMask, reference: BoolMask) -> int:
    """The slice with most of the prediction; of the reference, where nothing is predicted."""
    shown = predicted if predicted.any() else reference
    return int(shown.sum(axis=(1, 2)).argmax())


def _turned(look: CaseLook) -> CaseLook:
    """Front at the top and the patient's right at the left, for volumes whose axes are known."""
    names = ("picture", "reference", "intact", "place")
    flipped = {name: getattr(look, name)[::-1, ::-1] for name in names}
    zeroed = {change: mask[::-1, ::-1] for change, mask in look.zeroed.items()}
    return replace(look, **flipped, zeroed=zeroed, overlays=[overlay[::-1, ::-1] for overlay in look.overlays])
