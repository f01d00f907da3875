"""The driver of a job, run by Ray's Jobs API on the cluster: preflight, then each stage in order.

It knows which job it is from two environment variables; no value of the user's is on its command line.
"""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

from udt_cluster.cluster.driver import preflight, stages, study, tune, verify
from udt_cluster.cluster.driver.heartbeat import Heartbeat
from udt_cluster.cluster.logship import DRIVER, Shipper, ship_own_output
from udt_cluster.cluster.plan import PATIENCE_SECONDS
from udt_cluster.cluster.record import (
    FAILED,
    JOB_VARIABLE,
    LIFE_VARIABLE,
    RUNNING,
    STORAGE_VARIABLE,
    SUCCEEDED,
    JobRecord,
    State,
    now,
)
from udt_cluster.errors import RefusedError, UdtError
from udt_cluster.storage import Location
from udt_cluster.tracking import Tracker

T = TypeVar("T")
_LEFT_EXIT_CODE = 75
log = logging.getLogger("udt_cluster")


def main() -> int:
    """Run the job named by the environment; the exit code is the error's."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    log.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _stopped)
    record = JobRecord(Location.parse(os.environ[STORAGE_VARIABLE]), os.environ[JOB_VARIABLE])
    life = int(os.environ.get(LIFE_VARIABLE, "0"))
    tracker = Tracker(os.environ["MLFLOW_TRACKING_URI"], patience=PATIENCE_SECONDS)
    record.record()  # a job that was taken back before it began: nothing is written
    shipper = ship_own_output(record.logs / DRIVER)
    with shipper, closing(Heartbeat(record, life, ended=partial(_leave, shipper))):
        driver = Driver(record, tracker, life=life)
        try:
            driver.run()
        except Exception as error:  # noqa: BLE001 - the last door: whatever it is ends up in the record
            return driver.fail(error)
        driver.finish(SUCCEEDED)
    return 0


def _stopped(number: int, frame: object) -> None:
    """End as if by an exception, so that what was begun is put away: workers, folders, the last lines of the log."""
    log.info("stopped by signal %d", number)
    sys.exit(128 + number)


def _leave(shipper: Shipper, reason: str) -> None:
    """End at once, without touching the record: somebody else writes it now, or will when the job is resumed."""
    log.error("%s; this driver ends", reason)
    shipper.close()
    os._exit(_LEFT_EXIT_CODE)


class Driver:
    """Runs the stages and keeps the record's state."""

    def __init__(self, record: JobRecord, tracker: Tracker, *, life: int = 0) -> None:
        self.record = record
        self.tracker = tracker
        known = {"prepare": found} if (found := record.state().results.get("prepare")) else {}
        self.state = State(state=RUNNING, stage="preflight", started_at=now(), life=life, results=known)

    def run(self) -> None:
        """Preflight, then prepare, tune, train, evaluate and register, as far as the job says."""
        self.record.write_state(self.state)
        scope = stages.Scope.open(self.record, self.tracker)
        self._stage("preflight", lambda: self._preflight(scope))
        if self.state.life:
            log.info("life %d of the job: it goes on from its checkpoints", self.state.life)
            self.tracker.finish(scope.meta.run_id, "RUNNING")
        prepared = self._stage("prepare", lambda: stages.prepare(scope, self._say))
        if scope.meta.verifies:
            self._stage("verify", lambda: verify.verify(scope, prepared, self._say)).insist()
            return
        if "study" in scope.job.stages:
            self._stage("study", lambda: study.study(scope, prepared, self._say))
            return
        if "tune" in scope.job.stages:
            scope = scope.tuned(self._stage("tune", lambda: tune.tune(scope, prepared, self._say)).job)
        if "train" not in scope.job.stages:
            return
        runs = self._stage("train", lambda: stages.train(scope, prepared, self._say))
        if "evaluate" not in scope.job.stages:
            return
        scores = self._stage("evaluate", lambda: stages.evaluate(scope, prepared, runs, self._say))
        if "register" in scope.job.stages:
            self._stage("register", lambda: stages.register(scope, prepared, runs, scores, self._say))

    def _preflight(self, scope: stages.Scope) -> None:
        reports = preflight.inspect_cluster(scope.job, storage=scope.storage.uri, tracking=self.tracker.uri)
        problems = preflight.judge(
            reports,
            scope.job,
            expected=scope.versions,
            resources=scope.resources,
            data_version_there=scope.prepared_before(),
        )
        if problems:
            raise RefusedError("the target cannot run this job", problems)

    def _stage(self, name: str, work: Callable[[], T]) -> T:
        self._update(stage=name, message="")
        log.info("stage %s", name)
        began = time.monotonic()
        result = work()
        results = {**self.state.results, **({name: result.facts()} if hasattr(result, "facts") else {})}
        seconds = {**self.state.seconds, name: round(time.monotonic() - began, 2)}
        self._update(results=results, seconds=seconds)
        return result

    def _say(self, message: str) -> None:
        log.info("%s", message)
        self._update(message=message)

    def _update(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.record.write_state(self.state)

    def finish(self, state: str, message: str = "") -> None:
        """Write how the job ended, in the record and in MLflow."""
        self._update(state=state, message=message, finished_at=now())
        status: Literal["FINISHED", "FAILED"] = "FINISHED" if state == SUCCEEDED else "FAILED"
        try:
            self.tracker.finish_tree(self.record.record().run_id, status)
            self._update(run_ended=True)
        except UdtError as error:
            log.warning("MLflow was not told that the job ended: %s", error.message)

    def fail(self, error: Exception) -> int:
        """Write the failure; the traceback goes to the log, its meaning to the record."""
        message = str(error) if isinstance(error, UdtError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, UdtError):
            traceback.print_exception(error)
        log.error("job failed: %s", message)
        code = error.exit_code if isinstance(error, UdtError) else 1
        problems = list(error.problems) if isinstance(error, UdtError) else []
        self.state = replace(
            self.state, results={**self.state.results, "error": {"exit_code": code, "problems": problems}}
        )
        self.finish(FAILED, message)
        return code


if __name__ == "__main__":
    sys.exit(main())
