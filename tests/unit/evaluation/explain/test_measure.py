"""What zeroing and shuffling measure, against networks taken apart by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from udt_cluster.data import DataStore
from udt_cluster.evaluation import SegmentationModel, case_metrics
from udt_cluster.evaluation.explain.changes import Change
from udt_cluster.evaluation.explain.channels import Activity, channel_table, summarized
from udt_cluster.evaluation.explain.effect import CaseEffect, mean_by_group, summarize_effects
from udt_cluster.evaluation.explain.measure import MemberFindings, MemberMeasure, case_inputs
from udt_cluster.evaluation.explain.network import as_network, replaced, skip_kinds, watched
from udt_cluster.evaluation.explain.settings import ExplainSettings
from udt_cluster.evaluation.explain.similarity import CKASums

MODEL = Callable[..., SegmentationModel]
STORE = Callable[..., DataStore]


def measured(model: SegmentationModel, store: DataStore, cases: list[int], **settings: Any) -> MemberFindings:
    network = as_network(model.networks[0])
    with torch.inference_mode():
        return MemberMeasure(model, 0, network, store, ExplainSettings(**settings)).run(cases, lambda: None)


def effect_of(found: MemberFindings, case: str, change: Change) -> CaseEffect:
    (effect,) = [one for one in found.effects if (one.case, one.change) == (case, change)]
    return effect


def dice_with(model: SegmentationModel, store: DataStore, case: int, forward: Callable[[torch.Tensor], torch.Tensor]):
    """Dice of a case when something else than the network's own forward makes the logits."""

    class Instead(nn.Module):
        def forward(self, x):
            return forward(x)

    other = SegmentationModel(model.spec, [Instead()])
    first, count = int(store.cases.first_sample[case]), int(store.cases.num_samples[case])
    images, _ = store.read_samples(first, first + count)
    reference = store.native_label(case)
    predicted = other.predict_samples(images, native_size=reference.shape[1:])
    return {
        index: scores["dice"]
        for index, scores in case_metrics(
            predicted, reference, num_classes=model.num_classes, metrics=("dice",)
        ).items()
    }


@pytest.mark.parametrize(
    ("architecture", "skips", "context_slices"),
    [
        ("udtransnet", ("dra_channel", "dra_spatial", "identity", "dat"), 0),
        ("unet", ("identity", "none", "zero", "identity"), 1),
        ("r34_unet", ("identity",) * 4, 0),
    ],
)
def test_the_intact_network_scores_as_it_does_elsewhere(
    model: MODEL, store: STORE, architecture: str, skips: tuple[str, ...], context_slices: int
) -> None:
    made = store(slices=(1, 3), channels=3, num_classes=3)
    one = model(made, architecture, skips=skips, context_slices=context_slices)
    found = measured(one, made, [0, 1])
    for case in (0, 1):
        wanted = dice_with(one, made, case, one.networks[0])
        effect = effect_of(found, made.cases.ids[case], found.effects[0].change)
        assert dict(effect.intact) == pytest.approx(wanted, nan_ok=True)
    assert found.kinds == skip_kinds(one.networks[0])


def test_zeroing_is_the_decoder_with_zeros(model: MODEL, store: STORE) -> None:
    """By hand: the stage of level 3 is run with zeros beside its upsampled map."""
    made = store()
    one = model(made, "unet")
    network = one.networks[0]

    def without_level_3(x):
        features, _ = network.encode(x)
        decoded = network.decoder["level4"](features[4], features[3], None)
        up = network.decoder["level3"].up(decoded)
        decoded = network.decoder["level3"].conv(torch.cat([torch.zeros_like(features[2]), up], 1))
        decoded = network.decoder["level2"](decoded, features[1], None)
        return network.head(network.decoder["level1"](decoded, features[0], None))

    found = measured(one, made, [2, 4])
    for case in (2, 4):
        effect = effect_of(found, made.cases.ids[case], Change("zeroed", (3,)))
        assert dict(effect.changed) == pytest.approx(dice_with(one, made, case, without_level_3))
        assert effect.drop() == pytest.approx(effect.intact[1] - effect.changed[1])
        assert effect.changed != effect.intact, "a change that changes nothing would show nothing"


def test_shuffling_is_the_decoder_with_another_case_s_skips(model: MODEL, store: STORE) -> None:
    made = store(slices=(1, 1, 1))
    one = model(made)
    network, cases = one.networks[0], [0, 1, 2]
    found = measured(one, made, cases, seed=3)
    for position, case in enumerate(cases):
        donor = case_inputs(one, made, cases[found.donors.of[position]])
        with watched(network) as seen:
            network(donor)

        def forward(x, donated=seen.skips[2]):
            with replaced(network, {2: donated}):
                return network(x)

        effect = effect_of(found, made.cases.ids[case], Change("shuffled", (2,)))
        assert dict(effect.changed) == pytest.approx(dice_with(one, made, case, forward))
        assert effect.changed != effect.intact, "a change that changes nothing would show nothing"


def test_a_decoder_that_ignores_a_skip_loses_nothing_without_it(model: MODEL, store: STORE) -> None:
    made = store()
    one = model(made, "unet")
    first = one.networks[0].decoder["level1"].conv[0]
    first.weight[:, :32] = 0  # the channels of the skip come first
    found = measured(one, made, list(range(7)))
    drops = {(e.change.kind, e.change.level): 0.0 for e in found.effects}
    for effect in found.effects:
        drops[effect.change.kind, effect.change.level] += abs(effect.drop())
    assert drops["zeroed", "1"] == drops["shuffled", "1"] == 0
    assert min(drops["zeroed", "2"], drops["zeroed", "all"], drops["shuffled", "all"]) > 0


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_change_nothing(model: MODEL, store: STORE, batch_size: int) -> None:
    made = store(slices=(3, 2))
    one = model(made, skips=("dra_channel", "dra_spatial", "identity", "dat"))
    ours, whole = measured(one, made, [0, 1], batch_size=batch_size), measured(one, made, [0, 1], batch_size=8)
    for mine, theirs in zip(ours.effects, whole.effects, strict=True):
        assert dict(mine.changed) == pytest.approx(dict(theirs.changed), abs=2e-3)
    for mine, theirs in zip(ours.similarity, whole.similarity, strict=True):
        assert mine.cka == pytest.approx(theirs.cka, abs=1e-4)
    assert [c.skip_mean for c in ours.channels] == pytest.approx([c.skip_mean for c in whole.channels], abs=1e-4)


def test_similarity_is_that_of_the_features_on_both_sides(model: MODEL, store: STORE) -> None:
    made = store(slices=(1, 2))
    one = model(made, "unet", skips=("identity", "none", "identity", "zero"))
    network, found = one.networks[0], measured(one, made, [1])
    inputs = case_inputs(one, made, 1)
    with watched(network) as seen:
        features, tokens = network.encode(inputs)
        network.decode(features, tokens)
    for level in (1, 2, 3, 4):
        wanted = CKASums.of(features[level - 1], seen.ups[level]).value()
        values = {s.side: s.cka for s in found.similarity if s.level == level}
        assert values["encoder"] == pytest.approx(wanted, rel=1e-6)
        assert ("skip" in values) == (level in (1, 3))
        assert values.get("skip", wanted) == pytest.approx(wanted, rel=1e-6), "identity hands over the feature itself"
        assert found.pooled[level, "encoder"] == pytest.approx(wanted, rel=1e-6), "one case is all cases"


def test_channels_are_those_of_the_gate_and_of_the_skip(model: MODEL, store: STORE) -> None:
    made = store(slices=(1, 1))
    one = model(made, skips=("dra_channel", "none", "none", "dra_spatial"))
    network = one.networks[0]
    gate = network.decoder["level1"].skip.gate
    gate[1].weight[5], gate[1].bias[5] = 0, -1.0  # a gate that never opens
    found = measured(one, made, [0, 1])
    seen = []
    for case in (0, 1):
        with watched(network) as one_seen:
            network(case_inputs(one, made, case))
        seen.append(one_seen)
    gates = torch.cat([s.gates[1] for s in seen])
    skips = torch.cat([s.skips[1] for s in seen])
    rows = [row for row in found.channels if row.level == 1]
    assert [row.channel for row in rows] == list(range(64))
    assert [row.gate_mean for row in rows] == pytest.approx(gates.mean((0, 2, 3)).tolist(), rel=1e-5)
    assert [row.gate_active for row in rows] == pytest.approx((gates > 0).double().mean((0, 2, 3)).tolist())
    assert [row.skip_active for row in rows] == pytest.approx((skips > 0).double().mean((0, 2, 3)).tolist())
    assert (rows[5].gate_active, rows[5].skip_active) == (0, 0)
    summary = summarized(rows)
    assert summary["dead"] == int((skips.amax((0, 2, 3)) == 0).sum()) >= 1
    assert summary["gate_closed"] == int((gates.amax((0, 2, 3)) == 0).sum()) >= 1
    assert sum(row.received for row in rows) == pytest.approx(64)
    assert all(row.received is None for row in found.channels if row.level == 4)


def test_the_fewest_channels_for_nine_tenths_are_counted() -> None:
    feature = torch.zeros(1, 5, 2, 2)
    feature[0, :, 0, 0] = torch.tensor([6.0, 0, 1, 2, 1])
    rows = channel_table(level=1, kind="identity", skip=Activity.of(feature), gate=None, weights=None)
    found = summarized(rows)
    assert (found["most"], found["dead"], found["strongest"]) == (3, 1, [0, 3, 2, 4, 1])
    assert found["gate_mean"] is None


def effect(case: str, group: str, before: float, after: float) -> CaseEffect:
    change = Change("zeroed", (1,))
    return CaseEffect(member=0, case=case, group=group, change=change, intact={1: before}, changed={1: after})


def test_drops_are_averaged_over_groups_with_their_interval() -> None:
    effects = [effect(f"c{i}", f"g{i // 2}", 0.9, 0.9 - 0.02 * i) for i in range(14)]
    (row,) = summarize_effects(effects, ("background", "gland"))
    assert (row["cases"], row["groups"], row["class"]) == (14, 7, "mean")
    assert row["drop"] == pytest.approx(0.13)
    assert row["drop_low"] < 0.13 < row["drop_high"]
    assert row["drop_low"] > 0
    assert row["worst_drop"] == pytest.approx(0.26)


def test_five_groups_have_no_interval() -> None:
    (row,) = summarize_effects([effect(f"c{i}", f"g{i}", 0.9, 0.5) for i in range(5)], ("background", "gland"))
    assert (row["drop_low"], row["drop_high"]) == (None, None)


def test_what_is_undefined_is_left_out_and_counted() -> None:
    effects = [effect("a", "a", 0.8, 0.6), effect("b", "b", math.nan, 0.0), effect("c", "c", 0.5, math.nan)]
    (row,) = summarize_effects(effects, ("background", "gland"))
    assert (row["cases"], row["undefined"], row["drop"]) == (1, 2, pytest.approx(0.2))
    assert math.isnan(mean_by_group([math.nan], ["a"]).mean)


def test_a_case_of_several_classes_is_compared_where_both_are_defined() -> None:
    both = CaseEffect(
        member=0,
        case="a",
        group="a",
        change=Change("zeroed", (1,)),
        intact={1: 0.8, 2: math.nan, 3: 0.6},
        changed={1: 0.5, 2: 0.0, 3: 0.6},
    )
    assert both.values(None) == pytest.approx((0.7, 0.55))
    assert both.drop(1) == pytest.approx(0.3)
    rows = summarize_effects([both], ("background", "a", "b", "c"))
    assert [row["class"] for row in rows] == ["mean", "a", "b", "c"]
    assert np.isnan(rows[2]["drop"])
