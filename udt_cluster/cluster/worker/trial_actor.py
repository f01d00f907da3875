"""The process that Ray Tune keeps for trials, one after the other. It imports Ray: import it late."""

import os
from functools import partial
from typing import Any

from ray.tune import Trainable

from udt_cluster.cluster.record import JobRecord
from udt_cluster.cluster.worker.trial import TrialPlan, TrialThread, train_alone, train_trial
from udt_cluster.storage import Location

REPORT = "report"
"""Key of a result with what the trial says."""


def plan_location(record: JobRecord, number: int) -> Location:
    """Where the driver puts what the process needs for a trial."""
    return record.folder / "trials" / f"{number:05d}.plan.json"


class TrialActor(Trainable):  # type: ignore[misc]
    """Goes from rung to rung; Ray Tune says at each whether the trial goes on.

    What it is to train it reads in the job's record, and what a run has done lies in its checkpoints: it has nothing of
    its own that Ray Tune would have to save.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial; one that was begun before goes on from its checkpoints."""
        os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
        record = JobRecord(Location.parse(config["storage"]), config["job"])
        plan = TrialPlan.from_json(plan_location(record, config["number"]).read_bytes())
        train = partial(train_alone, most=plan.most, scores=plan.scores)
        self._trial = TrialThread(partial(train_trial, plan, train=train))

    def step(self) -> dict[str, Any]:
        """The next rung, or the end."""
        report = self._trial.next()
        return {REPORT: report.to_json(), "done": bool(report.outcome)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; where the last one does not end, Ray Tune makes another process."""
        if not self._trial.stop():
            return False
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the run's own checkpoints are all there is."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing likewise."""

    def cleanup(self) -> None:
        """End the trial."""
        self._trial.stop()
