"""Sweeps whose trials are drawn from a seed, for the tests of the report and of the terminal."""

import random
from dataclasses import replace
from typing import Any

from udt_cluster.search.report import Allowance, Budget, Space, Sweep
from udt_cluster.search.trials import Rung, Trial, TrialRun, TrialState

KINDS = ("none", "identity", "dra_channel", "dra_spatial")
SPACES = (
    Space(field="model.num_heads", kind="choice", values=(1, 2, 4, 8)),
    Space(field="model.num_layers", kind="int", values=(1, 8)),
    Space(field="model.skips", kind="subsets", values=KINDS),
    Space(field="train.lr", kind="log", values=(1e-4, 1e-2)),
    Space(field="train.dropout", kind="uniform", values=(0.0, 0.5)),
    Space(field="train.augment", kind="choice", values=("none", "released", "strong")),
)
ONE_SPACE = (Space(field="model.num_heads", kind="choice", values=(1, 2, 4)),)
ENDS: tuple[TrialState, ...] = ("finished", "pruned", "pruned", "finished", "pruned")


def trial(number: int, values: tuple[float, ...] = (0.5,), state: TrialState = "finished", **changes: Any) -> Trial:
    """A trial of so many folds, with a rung after each."""
    runs = tuple(
        TrialRun(run=f"t{number}-f{fold}", run_id=f"r{number}{fold}", fold=fold, seed=1, epochs=10, best_epoch=8,
                 value=value, parameters=1_000_000 + number, memory_gb=1.5)
        for fold, value in enumerate(values)
    )  # fmt: skip
    rungs = tuple(Rung(index=at, epochs=10 * (at + 1), value=value) for at, value in enumerate(values))
    ended = "" if state == "running" else f"2026-11-23T07:{number // 60 % 60:02d}:{number % 60:02d}+00:00"
    known: dict[str, Any] = {
        "settings": {"model.num_heads": 2}, "runs": runs if state == "finished" else (), "rungs": rungs,
        "seconds": 60.0 + number, "parameters": 1_000_000 + number, "gmac": 1.0 + number / 100, "ended_at": ended,
    }  # fmt: skip
    return Trial(number=number, state=state, **(known | changes))


def drawn(number: int, source: random.Random) -> Trial:
    """A trial of the spaces above; attention is what decides, then the learning rate; dropout is conditional."""
    skips = [source.choice(KINDS) for _ in range(4)]
    settings: dict[str, Any] = {
        "model.num_heads": source.choice((1, 2, 4, 8)),
        "model.num_layers": source.randint(1, 8),
        "model.skips": skips,
        "train.lr": 10 ** source.uniform(-4, -2),
        "train.augment": source.choice(("none", "released", "strong")),
    }
    if number % 3:
        settings["train.dropout"] = source.uniform(0, 0.5)
    lr = settings["train.lr"]
    merit = 0.62 + 0.05 * sum(kind.startswith("dra") for kind in skips) - 0.04 * abs(lr - 1e-3) / 1e-3 / 9
    merit += 0.004 * settings["model.num_heads"] + source.gauss(0, 0.01)
    state = ENDS[number % len(ENDS)]
    state = {11: "diverged", 17: "failed", 23: "diverged"}.get(number, state)  # type: ignore[assignment]
    folds = 3 if state == "finished" else 1 + number % 2
    values = tuple(merit + source.gauss(0, 0.015) for _ in range(folds))
    parameters = 1_500_000 * settings["model.num_layers"] + 800_000 * sum(kind != "none" for kind in skips)
    message = {"diverged": "the loss was not finite at epoch 3", "failed": "CUDA out of memory"}.get(state, "")
    return trial(
        number, values, state, settings=settings, parameters=parameters, gmac=parameters / 2.4e6, message=message,
        seconds=parameters / 1e5 + 10 * folds, gpu_hours=0.02 * folds,
        **({"rungs": ()} if state in ("diverged", "failed") else {}),
    )  # fmt: skip


def sweep_of(*trials: Trial, **changes: Any) -> Sweep:
    """A sweep that has ended."""
    return Sweep(**{"name": "glas", "trials": trials, "state": "finished", **changes})


def seeded(count: int, seed: int = 0, *, running: int = 0, **changes: Any) -> Sweep:
    """A sweep of so many trials, the last of them still running."""
    source = random.Random(seed)
    trials = [drawn(number, source) for number in range(count)]
    for at in range(count - running, count):
        trials[at] = replace(trials[at], state="running", runs=(), ended_at="", message="")
    budget = Budget(
        trials=Allowance(used=count, limit=max(count, 60)),
        gpu_hours=Allowance(used=sum(one.gpu_hours for one in trials), limit=40.0),
        seconds=Allowance(used=4321.0),
    )
    known = {"spaces": SPACES, "budget": budget, "job": "glas-1a2b3c4d", "method": "Optuna TPE from seed 1, ASHA"}
    return sweep_of(*trials, **(known | {"state": "running" if running else "finished"} | changes))
