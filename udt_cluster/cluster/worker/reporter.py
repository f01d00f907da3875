"""Where the metrics of a run go: to Ray; from rank 0 to MLflow, the job's record and its log."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.record import now
from udt_cluster.config.home import udt_home
from udt_cluster.config.job import Job

if TYPE_CHECKING:
    from udt_cluster.cluster.plan import RunPlan
    from udt_cluster.tracking import MetricLog

log = logging.getLogger("udt_cluster")


Tell = Callable[[dict[str, float]], None]
"""Given the metrics of each epoch, with `epoch` (from 1) and `step`."""


class JobReporter:
    """`udt_cluster.training.Reporter` of a job.

    Args:
        leads: Whether this is rank 0; the others speak to `tell` alone.
        tell: Told of each epoch, on every rank.
        is_shown: Whether this run's progress is the job's.
    """

    def __init__(self, plan: "RunPlan", job: Job, *, leads: bool, tell: Tell, is_shown: bool = True) -> None:
        self._plan, self._epochs, self._leads, self._is_shown = plan, job.train.epochs, leads, is_shown
        self._tell_others = tell
        self._log = _metric_log(plan) if leads and plan.tracking else None
        self._started = time.time()
        told = plan.record.progress() if leads else {}
        self._told = int(told["epoch"]) if told.get("run") == plan.run else 0

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a finished epoch; epochs that come again after a resume reach MLflow once."""
        if self._log is not None:
            self._log.log(epoch, dict(metrics))
        if self._leads and epoch > self._told:
            self._tell(epoch, step, metrics)
        self._tell_others({**metrics, "epoch": epoch, "step": step})

    def _tell(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        val_dice, seconds = metrics.get("val_dice", float("nan")), metrics.get("epoch_seconds", 0.0)
        log.info(
            "epoch %d/%d step %d train_loss %.4f val_dice %.4f %.1f s",
            *(epoch, self._epochs, step, metrics.get("train_loss", float("nan")), val_dice, seconds),
        )
        if self._is_shown:
            self._plan.record.write_progress(self._progress(epoch, step, val_dice, seconds))

    def _progress(self, epoch: int, step: int, val_dice: float, seconds: float) -> dict[str, Any]:
        return {
            "run": self._plan.run,
            "run_number": self._plan.number,
            "runs": self._plan.total,
            "fold": self._plan.fold,
            "seed": self._plan.seed,
            "epoch": epoch,
            "epochs": self._epochs,
            "step": step,
            "val_dice": None if val_dice != val_dice else val_dice,
            "eta_seconds": (self._epochs - epoch) * seconds
            + (self._plan.total - self._plan.number) * self._epochs * seconds,
            "epoch_seconds": seconds,
            "started": self._started,
            "at": now(),
        }

    def picture(self, name: str, png: bytes, step: int) -> None:
        """A picture of validation predictions."""
        if self._log is not None:
            self._log.picture(name, png, step)

    def close(self) -> None:
        """Give the spool a moment to empty."""
        if self._log is not None:
            left = self._log.close(60.0)
            if left:
                log.warning("%d metrics could not be sent to MLflow; they are kept in %s", left, self._plan.run)


def _metric_log(plan: "RunPlan") -> "MetricLog":
    from udt_cluster.tracking import MetricLog

    return MetricLog(plan.tracking, plan.run_id or plan.child(), udt_home() / "spool" / plan.run)
