"""Who goes on, what a budget ends, and what a driver that died leaves to the next."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from udt_cluster.config.job import Job
from udt_cluster.config.tune import BudgetConfig
from udt_cluster.search.rungs import Rungs, goes_on
from udt_cluster.search.sweep import PRUNED, Course, Spent, Sweep, used_up
from udt_cluster.search.trials import Rung, Trial, TrialRun, best, ranked

BASE: dict[str, Any] = {"name": "a", "data": {"source": "/d", "adapter": "glas", "group_by": "case"}}
HEADS = {"model.num_heads": {"choice": [1, 2, 4, 8]}, "model.num_layers": {"int": [1, 3]}}


def job(*, epochs: int = 27, **tune: Any) -> Job:
    section = {"search": HEADS, "budget": {"trials": 12}, "searcher": "random", **tune}
    return Job.model_validate({**BASE, "train": {"epochs": epochs}, "tune": section})


@pytest.mark.parametrize(
    ("tune", "epochs", "runs", "within"),
    [
        ({}, 27, 1, (1, 3, 9)),
        ({}, 100, 1, (3, 9, 27, 81)),
        ({}, 1, 2, ()),
        ({"min_epochs": 4, "reduction": 2}, 20, 1, (4, 8, 16)),
        ({"min_epochs": 20}, 20, 3, ()),
    ],
)
def test_rungs_are_epochs_of_the_first_run_and_the_end_of_each(
    tune: dict[str, Any], epochs: int, runs: int, within: tuple[int, ...]
) -> None:
    section = job(epochs=epochs, **tune).tune
    assert section is not None
    rungs = Rungs.of(section, epochs=epochs, runs=runs)
    assert rungs.epochs == within
    assert [rungs.at_epoch(epoch) for epoch in within] == list(range(len(within)))
    assert rungs.at_epoch(epochs) is None
    assert rungs.last == len(within) + runs - 1


@pytest.mark.parametrize(
    ("scheduler", "value", "others", "expected"),
    [
        ("asha", 0.5, [], True),
        ("asha", 0.5, [0.6], False),
        ("asha", 0.6, [0.5], True),
        ("asha", 0.6, [0.6, 0.1], True),
        ("asha", 0.5, [0.9, 0.1, 0.2, 0.3, 0.4], True),
        ("asha", 0.4, [0.9, 0.8, 0.1, 0.2, 0.3], False),
        ("median", 0.1, [0.9, 0.9, 0.9], True),
        ("median", 0.1, [0.2, 0.2, 0.2, 0.2], False),
        ("median", 0.2, [0.1, 0.1, 0.3, 0.2], True),
        ("fifo", 0.1, [0.9] * 20, True),
        ("fifo", float("nan"), [], False),
        ("asha", float("nan"), [], False),
    ],
)
def test_who_goes_on(scheduler: str, value: float, others: list[float], expected: bool) -> None:
    section = job(scheduler=scheduler).tune
    assert section is not None
    assert goes_on(section, value, others) is expected


@pytest.mark.parametrize(
    ("budget", "spent", "reason"),
    [
        (BudgetConfig(trials=3), Spent(3, 99.0, 99.0), ""),
        (BudgetConfig(gpu_hours=2), Spent(3, 1.9, 0), ""),
        (BudgetConfig(gpu_hours=2), Spent(3, 2.0, 0), "the budget of 2 GPU-hours is used up"),
        (BudgetConfig(time=timedelta(hours=1.5)), Spent(0, 0, 5399), ""),
        (BudgetConfig(time=timedelta(hours=1.5)), Spent(0, 0, 5400), "the time of 1.5 h is up"),
    ],
)
def test_a_budget_ends_with_what_is_used_up_first(budget: BudgetConfig, spent: Spent, reason: str) -> None:
    assert used_up(budget, spent) == reason


class Bench:
    """A sweep whose trials are numbers: what each would reach at each rung is a function of its settings."""

    def __init__(self, job: Job, value: Callable[[Mapping[str, Any], int], float], known: tuple[Trial, ...] = ()):
        self.kept: list[Trial] = []
        self.clock = 0.0
        self.sweep = Sweep(
            Course.of_sweep(job, lambda job: (1000, 1.0)),
            known=known,
            keep=self.kept.append,
            seconds=lambda: self.clock,
            now=lambda: "2026-01-01T00:00:00+00:00",
        )
        self.value, self.trained = value, list[int]()

    def run_one(self) -> Trial | None:
        trial = self.sweep.next()
        return None if trial is None else self.run(trial)

    def run(self, trial: Trial) -> Trial:
        self.trained.append(trial.number)
        rungs = self.sweep.course.rungs
        for index in range(rungs.last + 1):
            epochs = rungs.epochs[index] if index < len(rungs.epochs) else 27
            value = self.value(trial.settings, index)
            if reason := self.sweep.reached(trial.number, Rung(index=index, epochs=epochs, value=value)):
                return self.sweep.end(trial.number, "pruned", runs=(), message=reason)
        run = TrialRun(run="r", fold=0, seed=1, epochs=27, best_epoch=9, value=value)
        return self.sweep.end(trial.number, "finished", runs=(run,))

    def run_all(self) -> list[Trial]:
        while self.run_one() is not None:
            continue
        return self.sweep.trials


def merit(settings: Mapping[str, Any], rung: int) -> float:
    """Better with every rung, and ordered alike at all of them."""
    return 0.1 * settings["model.num_heads"] + 0.01 * settings["model.num_layers"] + 0.001 * rung


def test_asha_finds_the_best_with_a_part_of_the_epochs() -> None:
    trials = Bench(job(), merit).run_all()
    first = best(trials)
    assert first is not None
    assert first.settings == {"model.num_heads": 8, "model.num_layers": 3}
    spent, whole = sum(trial.epochs for trial in trials), 27 * 12
    assert spent <= 0.5 * whole
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert {trial.message for trial in pruned} == {PRUNED}
    assert ranked(trials)[0] == first
    assert all(trial.has_ended and trial.ended_at for trial in trials)


def test_fifo_trains_all_of_them_to_the_end() -> None:
    trials = Bench(job(scheduler="fifo"), merit).run_all()
    assert [trial.state for trial in trials] == ["finished"] * 12


def test_a_budget_of_time_ends_the_sweep_and_those_that_run() -> None:
    bench = Bench(job(scheduler="fifo", budget={"time": "1h"}), merit)
    bench.run_one()
    begun = bench.sweep.next()
    assert begun is not None
    bench.clock = 3600
    ended = bench.run(begun)
    assert (ended.state, ended.message) == ("pruned", "the time of 1 h is up")
    assert bench.run_one() is None
    assert bench.sweep.ended_because == "the time of 1 h is up"


def test_a_trial_that_has_come_to_its_end_finishes_though_the_time_is_up() -> None:
    bench = Bench(job(scheduler="fifo", budget={"time": "1h"}, min_epochs=27), merit)
    begun = bench.sweep.next()
    assert begun is not None
    bench.clock = 4000
    assert bench.run(begun).state == "finished"


def test_fault_T1_a_driver_that_died_is_gone_on_with_and_nothing_is_trained_twice() -> None:
    whole = Bench(job(), merit)
    expected = whole.run_all()

    first = Bench(job(), merit)
    for _ in range(4):
        first.run_one()
    begun = first.sweep.next()
    assert begun is not None
    first.sweep.reached(begun.number, Rung(index=0, epochs=1, value=merit(begun.settings, 0)))
    known = tuple({trial.number: trial for trial in first.kept}.values())  # what storage has

    second = Bench(job(), merit, known=known)
    found = second.run_all()
    assert second.trained == list(range(4, 12)), "the one that ran comes first, those that had ended never"
    assert [(t.settings, t.state, t.score, t.rungs) for t in found] == [
        (t.settings, t.state, t.score, t.rungs) for t in expected
    ]
    assert len(found) == 12, "the number of trials is kept"


def test_fault_T2_a_trial_that_fails_is_not_the_best_and_the_others_finish() -> None:
    bench = Bench(job(scheduler="fifo"), merit)
    for number in range(12):
        trial = bench.sweep.next()
        assert trial is not None
        if trial.settings["model.num_heads"] == 8:
            state: Any = "failed" if number % 2 else "diverged"
            run = TrialRun(run="r", fold=0, seed=1, epochs=3, best_epoch=1, value=0.99)
            bench.sweep.end(number, state, runs=(run,), message="it broke")
        else:
            bench.run(trial)
    trials = bench.run_all()
    first = best(trials)
    assert first is not None
    assert first.settings["model.num_heads"] == 4
    assert sum(trial.state == "finished" for trial in trials) == 9


def test_every_change_is_kept_and_nothing_else() -> None:
    bench = Bench(job(), merit)
    bench.run_one()
    assert [(trial.state, len(trial.rungs)) for trial in bench.kept] == [
        *(("running", count) for count in range(5)),
        ("finished", 4),
    ]
    number = bench.kept[-1].number
    bench.sweep.update(number, seconds=0.0)
    assert len(bench.kept) == 6


def test_a_trial_is_read_as_it_was_written() -> None:
    trial = Bench(job(), merit).run_one()
    assert trial is not None
    assert Trial.from_json(trial.to_json()) == trial
    for text in ("", "{}", "[1]", "null", trial.to_json()[:40], '{"rungs": [], "runs": [], "nothing": 1}'):
        with pytest.raises(ValueError, match=r"not a trial|Expecting|Unterminated|Extra"):
            Trial.from_json(text)


def test_the_order_of_merit() -> None:
    def trial(number: int, state: Any, value: float, rungs: int = 1, gmac: float = 1.0) -> Trial:
        run = TrialRun(run="r", fold=0, seed=1, epochs=3, best_epoch=1, value=value)
        steps = tuple(Rung(index=index, epochs=index + 1, value=value) for index in range(rungs))
        runs = (run,) if state == "finished" else ()
        return Trial(number=number, settings={}, state=state, runs=runs, rungs=steps, gmac=gmac)

    trials = [
        trial(0, "pruned", 0.99, rungs=1),
        trial(1, "finished", 0.7),
        trial(2, "finished", 0.8, gmac=3.0),
        trial(3, "finished", 0.8, gmac=2.0),
        trial(4, "failed", 0.9, rungs=0),
        trial(5, "pruned", 0.5, rungs=3),
        trial(6, "diverged", 0.9, rungs=0),
        trial(7, "running", 0.6, rungs=3),
    ]
    assert [found.number for found in ranked(trials)] == [3, 2, 1, 7, 5, 0, 4, 6]
    assert best(trials[:1]) is None
    assert replace(trials[4]).score is None


def test_a_study_trains_every_arm_on_every_fold_and_seed() -> None:
    section = {
        "question": "Which skips are needed?",
        "arms": {"plain": {"model.architecture": "unet"}},
        "vary": {"model.skips": {"subsets": True}},
        "constraints": ["gmac < 5"],
        "reference": "skips all",
    }
    values = {**BASE, "study": section, "repeat": {"folds": [0, 1], "seeds": [1, 2]}}
    cost = {"glas": lambda job: (1, 4.0 if job.model.skip_kinds[0] == "none" else 6.0)}
    course = Course.of_study(Job.model_validate(values), cost)
    proposals = [course.propose(number, []) for number in range(20)]
    arms = [proposal.point["arm"] for proposal in proposals if proposal]
    subsets = ["2+3+4", "2+3", "2+4", "2", "3+4", "3", "4", "none"]
    assert arms == ["plain", *(f"skips {levels}" for levels in subsets)]
    assert course.pairs == ((0, 1), (1, 1), (0, 2), (1, 2))
    assert (course.rungs.epochs, course.rungs.last) == ((), 3)
    assert course.goes_on(0.0, [1.0] * 9)
