"""Averaging: seeds within a case, cases within a patient, undefined scores in pairs."""

import math

import numpy as np
import pytest

from tests.study_tables import generated
from udt_cluster.studies import ScoreRow
from udt_cluster.studies.values import contrasted, scores_of, shared_means


def row(arm: str, case: str, dice: float, **options: object) -> ScoreRow:
    known: dict[str, object] = {
        "dataset": "D",
        "fold": 0,
        "seed": 0,
        "group": case,
        "class_index": 1,
        "class_name": "gland",
        "values": {"dice": dice, "hd95": 100 * (1 - dice)},
        **options,
    }
    return ScoreRow(arm=arm, case=case, **known)  # type: ignore[arg-type]


def test_classes_then_seeds_then_cases_then_groups_are_averaged() -> None:
    rows = [
        row("A", "x1", 0.9, group="x", seed=0),
        row("A", "x1", 0.7, group="x", seed=1),
        row("A", "x1", 0.5, group="x", seed=0, class_index=2, class_name="lumen"),
        row("A", "x1", 0.3, group="x", seed=1, class_index=2, class_name="lumen"),
        row("A", "x2", 0.2, group="x", seed=0),
        row("A", "x2", 0.4, group="x", seed=1),
        row("A", "y1", 1.0, group="y", seed=0),
        row("A", "y1", 1.0, group="y", seed=1),
    ]
    found = contrasted(scores_of(rows, "dice", ["A"]), {"A": 1.0})
    assert found.cases == {"x1": pytest.approx(0.6), "x2": pytest.approx(0.3), "y1": pytest.approx(1.0)}
    assert found.groups == {"x": pytest.approx(0.45), "y": pytest.approx(1.0)}
    assert found.undefined == 0
    only = contrasted(scores_of(rows, "dice", ["A"]), {"A": 1.0}, class_name="lumen")
    assert only.cases == {"x1": pytest.approx(0.4)}


def test_undefined_scores_leave_as_pairs_and_are_counted() -> None:
    """The lumen is in neither mask of A, but B found some: that pair, and only that pair, is left out."""
    lumen = {"class_index": 2, "class_name": "lumen"}
    rows = [
        row("A", "x", 0.8), row("A", "x", math.nan, **lumen),
        row("B", "x", 0.6), row("B", "x", 0.0, **lumen),
        row("A", "y", math.nan), row("B", "y", math.nan), row("A", "y", math.nan, **lumen), row("B", "y", 0.0, **lumen),
        row("A", "z", 0.5), row("B", "z", 0.5), row("A", "z", 0.3, **lumen), row("B", "z", 0.1, **lumen),
    ]  # fmt: skip
    found = contrasted(scores_of(rows, "dice", ["A", "B"]), {"A": 1.0, "B": -1.0})
    assert found.cases == {"x": pytest.approx(0.2), "z": pytest.approx(0.1)}
    assert (found.undefined, found.one_sided, found.left_out) == (3, 2, 1)


def test_arms_are_compared_on_cases_and_seeds_that_both_have() -> None:
    rows = [
        row("A", "x", 0.9), row("A", "x", 0.1, seed=1), row("B", "x", 0.5),
        row("A", "y", 0.9), row("B", "z", 0.1),
    ]  # fmt: skip
    found = contrasted(scores_of(rows, "dice", ["A", "B"]), {"A": 1.0, "B": -1.0})
    assert found.cases == {"x": pytest.approx(0.4)}
    assert found.undefined == 0, "a score that is not there is no undefined score"
    assert contrasted(scores_of(rows, "dice", ["A", "B", "C"]), {"A": 1.0, "C": -1.0}).groups == {}


def test_distances_in_pixels_and_millimetres_are_not_mixed() -> None:
    rows = [row("A", "x", 0.9, unit="mm"), row("A", "y", 0.8, unit="px")]
    assert scores_of(rows, "dice", ["A"]).arms_with_scores == ["A"]
    distances = scores_of(rows, "hd95", ["A"])
    assert distances.arms_with_scores == []
    assert distances.unit == "mixed"


def test_means_for_ranks_are_on_what_all_arms_have() -> None:
    rows = [row("A", "x", 0.9), row("B", "x", 0.5), row("A", "y", 0.1), row("A", "z", math.nan), row("B", "z", 0.0)]
    names, means = shared_means(scores_of(rows, "dice", ["A", "B"]), ["A", "B"])
    assert names == ("x",)
    np.testing.assert_allclose(means, [[0.9, 0.5]])


def test_noise_of_folds_and_seeds_is_found_where_folds_are_shared() -> None:
    rows = generated({"A": 0.0, "B": 0.0}, groups=100, folds=5, seeds=3, seed_noise=0.03)
    found = contrasted(scores_of(rows, "dice", ["A", "B"]), {"A": 1.0, "B": -1.0})
    assert found.components.seed_sd == pytest.approx(0.03 * math.sqrt(2), rel=0.5)
    changed = [*(one for one in rows if one.arm == "A"), *generated({"B": 0.0}, groups=100, folds=4, seeds=3)]
    scores = scores_of(changed, "dice", ["A", "B"])
    assert scores.folds == ()
    assert math.isnan(contrasted(scores, {"A": 1.0, "B": -1.0}).components.seed_sd)
