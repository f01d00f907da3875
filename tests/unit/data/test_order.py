import numpy as np
import pytest

from tests.memory_store import make_cases
from udt_cluster.data.order import BatchPlan, Window, epoch_order, neighbours, rank_cases, without_empty


def test_ranks_are_balanced_by_samples():
    cases = make_cases([f"c{n}" for n in range(40)], num_samples=[1 + n % 7 for n in range(40)])
    loads = [sum(cases.num_samples[members]) for members in rank_cases(cases, range(40), world_size=4)]
    assert max(loads) - min(loads) <= 1


def test_the_order_of_an_epoch_is_frozen():
    """Seeded runs of different versions must see the same batches; a change here breaks every resumed run."""
    assert epoch_order(np.arange(8), seed=1, epoch=2).tolist() == [6, 0, 7, 5, 1, 4, 3, 2]


def test_a_plan_cuts_a_step_over_ranks():
    order = np.arange(100, 200)
    plans = [BatchPlan(global_batch_size=12, micro_batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    assert [plan.local_samples(plan.global_samples(order, 2))[:4].tolist() for plan in plans] == [
        [124, 125, 126, 127],
        [128, 129, 130, 131],
        [132, 133, 134, 135],
    ]
    assert plans[0].steps(100) == 8
    assert plans[1].local_samples(plans[1].global_samples(order, 8)).tolist() == []


SAMPLES = np.arange(3, 403)
WINDOW = Window(shards=10, shard_samples=10)


def test_a_windowed_epoch_has_every_sample_once_and_each_epoch_another_order():
    orders = [epoch_order(SAMPLES, seed=3, epoch=epoch, window=WINDOW) for epoch in range(4)]
    assert all(np.array_equal(np.sort(order), SAMPLES) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert np.array_equal(orders[2], epoch_order(SAMPLES[::-1], seed=3, epoch=2, window=WINDOW))


def test_the_windowed_order_is_frozen():
    order = epoch_order(np.arange(8), seed=1, epoch=2, window=Window(shards=2, shard_samples=2))
    assert order.tolist() == [2, 4, 5, 3, 1, 6, 7, 0]


def test_a_window_is_a_full_shuffle_of_its_shards():
    """41 shards touch the samples; each lies within one window of 10, and its samples are all over that window."""
    place = np.argsort(epoch_order(SAMPLES, seed=3, epoch=0, window=WINDOW))  # of each sample in the order
    windows: dict[int, set[int]] = {}
    spans = []
    for shard in np.unique(SAMPLES // 10):
        where = place[shard == SAMPLES // 10]
        spans.append(np.ptp(where))
        windows.setdefault(int(where.min()) // 110, set()).add(int(shard))
    assert max(spans) < 100
    assert np.mean(spans) > 70
    assert all(np.ptp(list(shards)) > 10 for shards in windows.values() if len(shards) > 5)  # from anywhere in the data


def test_samples_of_one_shard_meet_as_often_as_the_window_says():
    """T / shards times as often as under a full shuffle: 4 times here."""

    def pairs(window):
        met = 0
        for epoch in range(40):
            shards = epoch_order(np.arange(400), seed=0, epoch=epoch, window=window) // 10
            counts = np.concatenate([np.unique(batch, return_counts=True)[1] for batch in shards.reshape(-1, 20)])
            met += int((counts * (counts - 1) // 2).sum())
        return met

    assert 3.6 < pairs(WINDOW) / pairs(None) < 4.5


def test_with_context_neighbouring_shards_come_together():
    window = Window.for_cache(np.arange(4000), shard_samples=10, capacity=100, context=True)
    assert window == Window(shards=50, shard_samples=10, run=8)
    order = epoch_order(np.arange(4000), seed=0, epoch=0, window=window)
    place = np.argsort(order).reshape(-1, 80)  # of the samples of each run of 8 shards
    assert np.ptp(place, axis=1).max() < 50 * 10


@pytest.mark.parametrize(("capacity", "shards"), [(40, None), (39, 19), (2, 1), (1, 1), (0, 1)])
def test_data_that_fits_the_cache_is_shuffled_fully_else_in_windows_of_half(capacity, shards):
    window = Window.for_cache(np.arange(400), shard_samples=10, capacity=capacity, context=False)
    assert (window and window.shards) == shards


def test_empty_samples_are_kept_dropped_or_drawn_once_for_the_run():
    samples, foreground = np.arange(10, 210), np.zeros(300, np.int32)
    foreground[50:100] = 7
    full = list(range(50, 100))
    assert without_empty(samples, foreground, keep="keep", seed=0) is samples
    assert without_empty(samples, foreground, keep="drop", seed=0).tolist() == full
    some = without_empty(samples, foreground, keep=0.2, seed=5)
    assert len(some) == 50 + 30
    assert set(full) < set(some.tolist())
    assert np.all(np.diff(some) > 0)
    assert np.array_equal(some, without_empty(samples, foreground, keep=0.2, seed=5))
    assert not np.array_equal(some, without_empty(samples, foreground, keep=0.2, seed=6))


def test_neighbours_stay_in_their_case():
    cases = make_cases(["a", "b", "c"], num_samples=[2, 1, 4])
    sample_case = np.repeat(np.arange(3, dtype=np.int32), cases.num_samples)
    rows = neighbours(cases, sample_case, np.array([0, 2, 3, 6]), range(-2, 3))
    assert rows.tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 2, 2], [3, 3, 3, 4, 5], [4, 5, 6, 6, 6]]
