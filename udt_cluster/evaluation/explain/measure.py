"""All cases through one network: Dice under every change, similarity, use of channels, maps between channels.

One case is in memory at a time, and one that stands in for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from udt_cluster.data import DataStore
from udt_cluster.evaluation.explain.changes import Change, Donors, changes_of, choose_donors, donor_slices
from udt_cluster.evaluation.explain.channels import Activity, ChannelUse, channel_table
from udt_cluster.evaluation.explain.effect import CaseEffect, Tally
from udt_cluster.evaluation.explain.network import Attention, Network, Seen, asked, replaced, skip_kinds, watched
from udt_cluster.evaluation.explain.settings import ExplainSettings
from udt_cluster.evaluation.explain.similarity import CKASums
from udt_cluster.evaluation.metrics import Mask
from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.pipeline import as_probabilities
from udt_cluster.evaluation.score import case_samples

ENCODER, SKIP = "encoder", "skip"
"""What is compared with the decoder's feature: the encoder's of the same level, and what the skip puts out."""
Pair = tuple[int, str]
Place = tuple[str, int]
_BETWEEN_CHANNELS = ("cfa", "dra_channel")


@dataclass(frozen=True, kw_only=True)
class CaseSimilarity:
    """Linear CKA with the decoder's feature over the places of one case; NaN where a feature is constant."""

    member: int
    case: str
    group: str
    level: int
    side: str
    cka: float


@dataclass(frozen=True, kw_only=True)
class MemberFindings:
    """What was found in one network.

    Attributes:
        member: Its number in the ensemble, from 0.
        kinds: Kind of the skip, by level.
        donors: Which case stood in for which.
        effects: One entry for each case and change.
        similarity: One entry for each case, level and side.
        pooled: CKA over the places of all cases together, by level and side.
        channels: One entry for each channel of each skip.
        maps: Mean map between channels, (C, C), of CFA by block and of DRA-C by level.
    """

    member: int
    kinds: Mapping[int, str]
    donors: Donors
    effects: list[CaseEffect]
    similarity: list[CaseSimilarity]
    pooled: dict[Pair, float]
    channels: list[ChannelUse]
    maps: dict[Place, Tensor]


@dataclass
class Sums:
    """What is added up over batches; all of it in memory that does not grow with them."""

    case: dict[Pair, CKASums] = field(default_factory=dict)
    pooled: dict[Pair, CKASums] = field(default_factory=dict)
    skips: dict[int, Activity] = field(default_factory=dict)
    gates: dict[int, Activity] = field(default_factory=dict)
    maps: dict[Place, Tensor] = field(default_factory=dict)
    images: int = 0

    def add(self, features: Sequence[Tensor], seen: Seen, attentions: Sequence[Attention]) -> None:
        """Add a batch of the intact network."""
        self.images += len(features[0])
        for level, up in seen.ups.items():
            sides = {ENCODER: features[level - 1], **({SKIP: seen.skips[level]} if level in seen.skips else {})}
            for side, feature in sides.items():
                for image in range(len(up)):
                    sums = CKASums.of(feature[image : image + 1], up[image : image + 1])
                    _add(self.case, (level, side), sums)
        for level, skip in seen.skips.items():
            _add(self.skips, level, Activity.of(skip))
        for level, gate in seen.gates.items():
            _add(self.gates, level, Activity.of(gate))
        for attention in attentions:
            if attention.kind in _BETWEEN_CHANNELS:
                weights = attention.weights().to(torch.float64).sum(0).cpu()
                _add(self.maps, (attention.kind, attention.place), weights)

    def end_case(self) -> dict[Pair, float]:
        """CKA over the case that has been added, which goes into the whole."""
        values = {pair: sums.value() for pair, sums in self.case.items()}
        for pair, sums in self.case.items():
            _add(self.pooled, pair, sums)
        self.case.clear()
        return values

    @property
    def mean_maps(self) -> dict[Place, Tensor]:
        """Mean over images."""
        return {place: total / self.images for place, total in self.maps.items()}


class MemberMeasure:
    """Takes one network of a model through cases of a store.

    Args:
        model: Whose.
        member: Number of the network.
        network: The network.
        store: Where the cases are.
        settings: Batch size and seed.
    """

    def __init__(
        self, model: SegmentationModel, member: int, network: Network, store: DataStore, settings: ExplainSettings
    ) -> None:
        self._model, self._member, self._network = model, member, network
        self._store, self._settings = store, settings
        self._sums = Sums()

    def run(self, cases: Sequence[int], progress: Callable[[], None]) -> MemberFindings:
        """Measure all of them; `progress` is called after each."""
        groups, kinds = [self._store.cases.groups[case] for case in cases], skip_kinds(self._network)
        donors = choose_donors(groups, seed=self._settings.seed)
        changes = changes_of(tuple(kinds), shuffled=bool(donors.of))
        effects: list[CaseEffect] = []
        similarity: list[CaseSimilarity] = []
        for place, case in enumerate(cases):
            tally = self._tally(case, cases[donors.of[place]] if donors.of else None, changes)
            who: dict[str, Any] = {"member": self._member, "case": self._store.cases.ids[case], "group": groups[place]}
            intact = tally.dice(None)
            effects += [CaseEffect(**who, change=c, intact=intact, changed=tally.dice(c)) for c in changes]
            found = self._sums.end_case().items()
            similarity += [CaseSimilarity(**who, level=level, side=side, cka=cka) for (level, side), cka in found]
            progress()
        return MemberFindings(
            member=self._member,
            kinds=kinds,
            donors=donors,
            effects=effects,
            similarity=similarity,
            pooled={pair: sums.value() for pair, sums in self._sums.pooled.items()},
            channels=self._channels(kinds),
            maps=self._sums.mean_maps,
        )

    def _tally(self, case: int, donor: int | None, changes: Sequence[Change]) -> Tally:
        """One case under every change."""
        inputs, reference = case_inputs(self._model, self._store, case), self._store.native_label(case)
        native, depth = (reference.shape[1], reference.shape[2]), len(inputs)
        others = None
        if donor is not None:
            others = case_inputs(self._model, self._store, donor)
            others = others[donor_slices(depth, len(others))]
        tally = Tally(self._model.num_classes)
        for start in range(0, depth, self._settings.batch_size):
            part = slice(start, start + self._settings.batch_size)
            with watched(self._network) as seen, asked(self._network) as attentions:
                features, tokens = self._network.encode(inputs[part])
                logits = self._network.decode(features, tokens)
            self._sums.add(features, seen, attentions)
            tally.add(None, masks(self._model, logits, native), reference[part])
            donated = {} if others is None else self._skips(others[part])
            for change in changes:
                with replaced(self._network, change.instead(donated)):
                    logits = self._network.decode(features, tokens)
                tally.add(change, masks(self._model, logits, native), reference[part])
        return tally

    def _skips(self, inputs: Tensor) -> dict[int, Tensor]:
        """What the skips put out for other images."""
        with watched(self._network) as seen:
            self._network(inputs)
        return seen.skips

    def _channels(self, kinds: Mapping[int, str]) -> list[ChannelUse]:
        weights, rows = self._sums.mean_maps, list[ChannelUse]()
        for level, kind in kinds.items():
            skip, gate = self._sums.skips[level], self._sums.gates.get(level)
            rows += channel_table(level=level, kind=kind, skip=skip, gate=gate, weights=weights.get((kind, level)))
        return rows


def case_inputs(model: SegmentationModel, store: DataStore, case: int) -> Tensor:
    """What a network of the model sees of a case, (D, in_channels, h, w), on the model's device."""
    samples = torch.from_numpy(case_samples(store, case).astype(np.float32)).to(model.device)
    inputs: Tensor = model.spec.normalization(model.pipeline.inputs(samples))
    return inputs


def masks(model: SegmentationModel, logits: Tensor, native_size: tuple[int, int]) -> Mask:
    """Class indices (B, H, W) of logits (B, K, h, w), as the model alone would predict them."""
    return model.pipeline.masks(as_probabilities(logits), native_size).cpu().numpy()


def _add(totals: dict[Any, Any], key: object, new: CKASums | Activity | Tensor) -> None:
    totals[key] = totals[key] + new if key in totals else new
