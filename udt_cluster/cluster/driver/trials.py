"""Ray Tune as it is used here: it places the trials, keeps their processes warm and gives everything back.

What is proposed and who goes on is decided by :mod:`udt_cluster.search`; what is known is kept in the job's record. So
nothing of Ray Tune's own state (pickles, on a node that may die) is ever read.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune import (
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    TuneConfig,
    Tuner,
    with_resources,
)
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from udt_cluster.cluster.plan import scratch_folder
from udt_cluster.cluster.worker.trial import Report
from udt_cluster.cluster.worker.trial_actor import REPORT, TrialActor

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

log = logging.getLogger("udt_cluster")
_FOR_EVER = -1
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1000000",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Ray Tune shall write neither tables nor files of its own."""


@dataclass(frozen=True)
class Desk:
    """Who is asked: plain functions, so that the decisions know nothing of Ray.

    Attributes:
        begin: What the process of the next trial is told; None when no other one shall begin.
        heard: Given a trial's number, what it says and the seconds since it said something last; whether it goes on.
        lost: Given the number of a trial that Ray Tune has given up, and why.
    """

    begin: Callable[[], dict[str, Any] | None]
    heard: Callable[[int, Report, float], bool]
    lost: Callable[[int, str], None]

    def __deepcopy__(self, memo: object) -> "Desk":
        return self  # Ray Tune copies what it is given, and there is one desk

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nobody, ()  # Ray Tune writes down what it is given, and nobody will read it


def _nobody() -> None:
    """What a desk is that was written down."""


class Proposals(Searcher):  # type: ignore[misc]
    """Asks the desk for trials, no more than `most` at a time."""

    def __init__(self, desk: Desk, most: int) -> None:
        super().__init__()
        self._desk, self._most = desk, most
        self._running: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Mapping[str, Any] | str | None:
        """The settings of a trial, or that there is none now, or none any more."""
        if len(self._running) >= self._most:
            return None
        settings = self._desk.begin()
        if settings is None:
            return str(self.FINISHED)
        self._running[trial_id] = int(settings["number"])
        return settings

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for the next; one that Ray Tune has given up is told of."""
        number = self._running.pop(trial_id)
        if error:
            self._desk.lost(number, "Ray Tune gave it up; see the driver's log")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the module."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the module."""


class Verdicts(FIFOScheduler):  # type: ignore[misc]
    """Asks the desk whether a trial goes on."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_trial_result(self, tune_controller: "TuneController", trial: "Trial", result: dict[str, Any]) -> str:
        """A rung was reached."""
        goes_on = self._desk.heard(_number(trial), Report.from_json(result[REPORT]), result["time_this_iter_s"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: "TuneController", trial: "Trial", result: dict[str, Any]) -> None:
        """A trial has said its last word."""
        self._desk.heard(_number(trial), Report.from_json(result[REPORT]), result["time_this_iter_s"])


def _number(trial: "Trial") -> int:
    return int(trial.config["number"])


def run_trials(desk: Desk, *, most: int, need: Mapping[str, float]) -> None:
    """Run trials until the desk has no more.

    Args:
        desk: Who is asked.
        most: Trials at a time.
        need: What each takes of a node.
    """
    os.environ.update(_QUIET)
    scratch = scratch_folder()
    tuner = Tuner(
        with_resources(TrialActor, PlacementGroupFactory([dict(need)])),
        tune_config=TuneConfig(
            search_alg=Proposals(desk, most),
            scheduler=Verdicts(desk),
            num_samples=_FOR_EVER,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            trial_name_creator=lambda trial: f"trial-{_number(trial):05d}",
        ),
        run_config=RunConfig(
            name="sweep",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=_FOR_EVER),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
