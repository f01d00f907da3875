"""What a sweep found, in numbers and in one sentence that claims no more than they bear."""

from collections import Counter
from dataclasses import dataclass, replace
from statistics import mean

from udt_cluster.search.report.sweep import Sweep, score, spread
from udt_cluster.search.report.wording import counted, listed, score_text, settings_text
from udt_cluster.search.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two trials compared run by run, where both have the same fold and seed.

    Attributes:
        runs: How many runs both have.
        ahead: In how many of them the first is better.
        difference: Mean of first minus second.
    """

    runs: int
    ahead: int
    difference: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a sweep.

    Attributes:
        best: The best finished trial.
        second: The next.
        lead: By how much the best is better, 0 or more.
        spread: Sample standard deviation of the best over its folds and seeds.
        pairing: Of the first two.
        as_good: Finished trials no further from the best than its spread, the best among them, best first.
        smallest: Of these, the one with the fewest parameters.
        sentence: All that, for people.
    """

    best: Trial | None
    second: Trial | None
    lead: float | None
    spread: float | None
    pairing: Pairing | None
    as_good: tuple[Trial, ...]
    smallest: Trial | None
    sentence: str

    @property
    def is_clear(self) -> bool | None:
        """Whether the lead is more than the spread; None where there is no lead, or no spread to compare it with."""
        return None if self.lead is None or self.spread is None else self.lead > self.spread


def answer(sweep: Sweep) -> Answer:
    """The best trial, how far it is ahead, and whether that is more than folds and seeds differ by themselves."""
    first, second = (*sweep.finished[:2], None, None)[:2]
    lead = _distance(first, second) if first and second else None
    around = spread(first) if first else None
    near = _within(sweep, first, around)
    found = Answer(
        best=first,
        second=second,
        lead=lead,
        spread=around,
        pairing=_pairing(first, second, sweep) if first and second else None,
        as_good=near,
        smallest=min(near, key=lambda trial: (trial.parameters, trial.gmac)) if near else None,
        sentence="",
    )
    return replace(found, sentence=_sentence(sweep, found))


def _within(sweep: Sweep, first: Trial | None, around: float | None) -> tuple[Trial, ...]:
    if first is None:
        return ()
    return tuple(trial for trial in sweep.finished if _distance(first, trial) <= (around or 0.0))


def _distance(one: Trial, other: Trial) -> float:
    """Between two trials that finished."""
    first, second = score(one), score(other)
    assert first is not None
    assert second is not None
    return abs(first - second)


def _pairing(first: Trial, second: Trial, sweep: Sweep) -> Pairing | None:
    others = {(run.fold, run.seed): run.value for run in second.runs}
    pairs = [(run.value, others[run.fold, run.seed]) for run in first.runs if (run.fold, run.seed) in others]
    if not pairs:
        return None
    ahead = sum(sweep.better(one, other) for one, other in pairs)
    return Pairing(runs=len(pairs), ahead=ahead, difference=mean(one - other for one, other in pairs))


def _sentence(sweep: Sweep, found: Answer) -> str:
    if found.best is None:
        return _nothing_yet(sweep)
    start = "So far the" if sweep.state == "running" else "The"
    settings = settings_text(found.best, sweep) or "the job's own settings"
    value = score_text(score(found.best)) + (f" ± {score_text(found.spread)}" if found.spread is not None else "")
    best = f"{start} best is trial {found.best.number} with {settings}: {sweep.metric} {value}{_over(found.best)}"
    if found.second is None:
        return f"{best}; no other trial has finished, so there is nothing to compare it with."
    return f"{best}; {_compared(found, found.second)}."


def _nothing_yet(sweep: Sweep) -> str:
    counts = [f"{count} {state}" for state, count in sweep.counts.items() if count]
    if not counts:
        return "No trial has begun." if sweep.state == "running" else "No trial was begun: there is no answer."
    if sweep.state == "running":
        return f"No trial has finished yet: {listed(counts)}."
    return f"There is no answer: no trial finished ({listed(counts)})."


def _over(trial: Trial) -> str:
    folds, seeds = len({run.fold for run in trial.runs}), len({run.seed for run in trial.runs})
    if len(trial.runs) < 2:
        return " in one run"
    parts = [counted(count, noun) for count, noun in ((folds, "fold"), (seeds, "seed")) if count > 1]
    return f" over {listed(parts)}" if parts else f" over {counted(len(trial.runs), 'run')}"


def _compared(found: Answer, second: Trial) -> str:
    assert found.lead is not None
    if found.lead == 0:
        return f"trial {second.number} scored the same, so no difference is shown"
    ahead = f"its lead over the second (trial {second.number}), {_small(found.lead)}"
    if found.spread is None:
        return f"{ahead}, may be chance: one run says nothing of how far runs differ"
    paired = ""
    if found.pairing is not None and found.pairing.runs > 1:
        paired = f"; it is ahead in {found.pairing.ahead} of {found.pairing.runs} runs"
    spread_of_best = f"its spread over runs ({_small(found.spread)}{paired})"
    if found.is_clear:
        return f"{ahead}, is more than {spread_of_best}"
    return f"{ahead}, is no more than {spread_of_best}: no difference is shown"


def _small(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1g}"


def failures(sweep: Sweep) -> list[tuple[str, str, tuple[int, ...]]]:
    """State, message and trials of what did not finish though it was not pruned, the most frequent first."""
    bad = [trial for trial in sweep.trials if trial.state in ("diverged", "failed")]
    causes = Counter((trial.state, trial.message or "no reason was given") for trial in bad)
    return [
        (state, message, tuple(t.number for t in bad if (t.state, t.message or "no reason was given") == cause))
        for cause, _ in causes.most_common()
        for state, message in [cause]
    ]
