"""From the backlog to MLflow: each (metric, step) once, what is refused said and left out."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from udt_cluster.errors import AuthError, RefusedError, UsageError
from udt_cluster.tracking.backlog import BATCH_POINTS
from udt_cluster.tracking.reported import Reported
from udt_cluster.tracking.runs import ChildRun, Tracker
from udt_cluster.tracking.spool import Record

_log = logging.getLogger(__name__)

_LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
_REFUSALS_OF_A_KEY = 3
_Point = dict[str, Any]


class Delivery:
    """Sends the records of one run.

    Args:
        tracker: The server.
        run: The run's id, or what it is to be made, or found, by when the server answers.
    """

    def __init__(self, tracker: Tracker, run: str | ChildRun) -> None:
        self._tracker = tracker
        self._run = run
        self._run_id = run if isinstance(run, str) else ""
        self._reported = Reported()
        self._known = False
        self._gone = False
        self._refusals: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The run, for messages."""
        return self._run if isinstance(self._run, str) else self._run.name

    def send(self, batch: Sequence[Record]) -> None:
        """Send records: one picture, or metrics. Doing it again sends nothing twice.

        Raises:
            UnreachableError, AuthError: they could not be sent now.
        """
        self._find_run()
        if self._gone:
            return
        if "picture" in batch[0].value:
            self._send_picture(batch[0].value)
            return
        points: dict[tuple[str, int], _Point] = {}
        for record in batch:
            for key, value in record.value["metrics"].items():
                point = (key, record.value["step"])
                if point not in self._reported:
                    points.setdefault(point, _point(key, value, record.value))
        new = list(points.values())
        for start in range(0, len(new), BATCH_POINTS):
            self._send_points(new[start : start + BATCH_POINTS])

    def _find_run(self) -> None:
        """Once: the run's id, and every (metric, step) that it has from an earlier process."""
        if self._known:
            return
        if isinstance(self._run, ChildRun):
            self._run_id = self._tracker.start(self._run)
        try:
            with self._tracker.calls() as client:
                for key in client.get_run(self._run_id).data.metrics:
                    self._note_history(client, key)
        except UsageError as error:
            self._drop_everything(str(error))
        self._known = True

    def _note_history(self, client: MlflowClient, key: str) -> None:
        for point in client.get_metric_history(self._run_id, key):
            self._reported.add(key, point.step)

    def _send_points(self, points: Sequence[_Point]) -> None:
        """One request; what is refused is sent by halves, so that one bad name does not keep the others out."""
        points = [point for point in points if self._refusals.get(point["key"], 0) < _REFUSALS_OF_A_KEY]
        if self._gone or not points:
            return
        try:
            with self._tracker.calls():
                _log_batch(self._tracker.uri, self._run_id, points)
        except (RefusedError, UsageError) as error:
            if isinstance(error, AuthError):
                raise
            if not self._is_there(error):
                return
            if len(points) == 1:
                self._leave_out(points[0], error)
                return
            middle = len(points) // 2
            self._send_points(points[:middle])
            self._send_points(points[middle:])
            return
        for point in points:
            self._reported.add(point["key"], point["step"])

    def _is_there(self, refusal: Exception) -> bool:
        """Whether the run still takes metrics; else everything that is still to come is dropped, with one warning."""
        try:
            with self._tracker.calls() as client:
                alive = bool(client.get_run(self._run_id).info.lifecycle_stage == "active")
        except UsageError:
            alive = False
        if not alive:
            self._drop_everything(str(refusal))
        return alive

    def _drop_everything(self, reason: str) -> None:
        _log.warning("not logged to run %s, and nothing more will be: %s", self.name, reason)
        self._gone = True

    def _leave_out(self, point: _Point, error: Exception) -> None:
        key = point["key"]
        self._refusals[key] = self._refusals.get(key, 0) + 1
        last = "; it is left out from here on" if self._refusals[key] == _REFUSALS_OF_A_KEY else ""
        _log.warning("not logged to run %s: %s at step %d: %s%s", self.name, key, point["step"], error, last)

    def _send_picture(self, value: Mapping[str, Any]) -> None:
        path = Path(value["picture"])
        if not path.is_file():
            _log.warning("not logged to run %s: %s has gone", self.name, path)
            return
        try:
            with self._tracker.calls() as client:
                client.log_artifact(self._run_id, str(path), f"pictures/{value['name']}")
        except (RefusedError, UsageError) as error:
            if isinstance(error, AuthError):
                raise
            _log.warning("not logged to run %s: %s: %s", self.name, path.name, error)
        path.unlink(missing_ok=True)


def _point(key: str, value: float, record: Mapping[str, Any]) -> _Point:
    """As MLflow's REST API wants it: what JSON has no number for is text."""
    if not math.isfinite(value):
        shown = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"key": key, "value": shown, "timestamp": record["time"], "step": record["step"]}
    return {"key": key, "value": value, "timestamp": record["time"], "step": record["step"]}


def _log_batch(uri: str, run_id: str, points: Sequence[_Point]) -> None:
    """MLflow's client makes three copies of every point in Python: 15 ms for a thousand, which training would feel."""
    content = {"run_id": run_id, "metrics": list(points)}
    response = http_request(get_default_host_creds(uri), _LOG_BATCH, "POST", json=content, raise_on_status=False)
    verify_rest_response(response, _LOG_BATCH)
