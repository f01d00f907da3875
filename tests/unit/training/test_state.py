import json
import math
import pickle

import pytest

from udt_cluster.errors import VersionError
from udt_cluster.training.state import TrainingState


def _run(*scores: float) -> TrainingState:
    state = TrainingState()
    for index, score in enumerate(scores, start=1):
        state = state.after_epoch(step=3 * index, metrics={"val_dice": score})
    return state


@pytest.mark.parametrize(
    ("scores", "best_epoch", "stale"),
    [
        ([0.1], 1, 0),
        ([0.1, 0.2, 0.15], 2, 1),
        ([0.2, 0.2], 1, 1),
        ([math.nan], 1, 0),
        ([math.nan, 0.0], 2, 0),
        ([0.3, math.nan, math.nan], 1, 2),
    ],
)
def test_the_best_epoch(scores: list[float], best_epoch: int, stale: int) -> None:
    state = _run(*scores)
    assert state.best is not None
    assert (state.best.epoch, state.epochs_without_improvement) == (best_epoch, stale)
    assert state.is_best == (best_epoch == len(scores))


def test_json_and_pickle_round_trip_with_nan() -> None:
    state = _run(0.25, math.nan).after_epoch(step=9, metrics={"val_dice": 0.5, "val_dice_class_1": math.nan})
    json.loads(state.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for back in (TrainingState.from_json(state.to_json()), pickle.loads(pickle.dumps(state))):
        assert back.to_json() == state.to_json()
        assert math.isnan(back.history[2].metrics["val_dice_class_1"])
        assert back.best == state.best


def test_a_position_within_an_epoch_round_trips_bit_for_bit() -> None:
    state = _run(0.5).within_epoch(step=5, sums={"loss": 0.1 + 0.2, "loss_dice": 1 / 3}, seconds=12.25)
    assert TrainingState.from_json(state.to_json()) == state
    assert not state.is_best  # the best epoch is another checkpoint
    after = state.after_epoch(step=6, metrics={"val_dice": 0.75})
    assert (after.partial, after.epoch, after.is_best) == (None, 2, True)


def test_a_state_of_another_version_is_refused() -> None:
    newer = TrainingState().to_json().replace('"version": 2', '"version": 3')
    with pytest.raises(VersionError, match="version 3, this udt-cluster reads 2"):
        TrainingState.from_json(newer)
