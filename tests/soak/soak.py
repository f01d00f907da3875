"""One job on a lab, and a fault every so often, until time is up; then it shall end well and leave nothing."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from tests.e2e.conftest import CommandLine
from tests.hosts.lab import Lab
from tests.hosts.training import ENDED, Training
from tests.soak.faults import Fault, Undo, by_turns
from tests.soak.leaks import leaked, settled
from tests.soak.report import Report, Strike

_LOOK_SECONDS = 1.0
_LOST_SECONDS = 75.0
"""So long without a step is worth a look whether the driver lives."""
_LOOK_AGAIN_SECONDS = 20.0
_SETTINGS = (
    "resources.workers={min: 1, max: 2}",
    "retry.hang=60s",
    "train.checkpoint_every=20s",
    "train.keep=2",
    "train.early_stopping=null",
)
_MANY_EPOCHS = 100_000
_AWAY = (BotoCoreError, ClientError)
_METRICS = ("val_dice", "train_loss", "lr")
Say = Callable[[str], None]


@dataclass
class Soak:
    """One soak.

    Args:
        lab: With Redis and a proxy before S3, so that all faults can happen.
        line: The command line of its user.
        minutes: How long faults happen.
        every: Seconds from one to the next.
        seed: Of their order.
        faults: To take instead of all, in this order.
        end_within: Seconds that the job has, at the end, to go on and finish.
    """

    lab: Lab
    line: CommandLine
    minutes: float
    every: float
    seed: int
    say: Say = print
    faults: tuple[Fault, ...] = ()
    end_within: float = 600.0
    _undo: list[tuple[float, Undo]] = field(default_factory=list)
    _newest: tuple[int, int] = (0, 0)
    _moved_at: float = 0.0
    _struck_at: float = 0.0
    _looked_at: float = 0.0

    def run(self) -> Report:
        """Do it all."""
        report = Report(self.seed, self.minutes)
        Training(self.lab, self.line, "train.epochs=1").wait(seconds=600)  # so that Ray and MLflow are warm
        report.before = settled(self.lab, seconds=60)
        job = Training(self.lab, self.line, f"train.epochs={_MANY_EPOCHS}", *_SETTINGS)
        report.job = job.id
        job.wait_for_step(1, seconds=600)
        self._strike_until_time_is_up(job, report)
        self._finish(job, report)
        report.after = settled(self.lab, seconds=120)
        report.leaks = leaked(report.before, report.after)
        return report

    def _strike_until_time_is_up(self, job: Training, report: Report) -> None:
        dice, began = random.Random(self.seed), time.monotonic()
        turns, next_at = self._turns(dice), began + self.every / 3
        fault: Fault | None = None
        self._moved_at = self._looked_at = time.monotonic()
        while time.monotonic() < began + 60 * self.minutes:
            self._undo_what_is_over()
            if time.monotonic() >= next_at:
                fault = fault or next(turns)
                if self._strike(fault, dice, report, minute=(time.monotonic() - began) / 60):
                    fault, next_at = None, max(next_at + self.every, time.monotonic() + self.every / 2)
            self._keep_going(job, report)
            time.sleep(_LOOK_SECONDS)
        self._undo_what_is_over(all_of_them=True)

    def _turns(self, dice: random.Random) -> Iterator[Fault]:
        while True:
            yield from self.faults or by_turns(dice)

    def _strike(self, fault: Fault, dice: random.Random, report: Report, *, minute: float) -> bool:
        """Let it happen; whether there was anything to strike."""
        self._undo_what_is_over(all_of_them=True)
        where, undo = fault.strike(self.lab, dice)
        if not where:
            return False
        self._undo.append((time.monotonic() + fault.lasts, undo))
        report.strikes.append(Strike(fault.name, where, round(minute, 1), time.time()))
        self._struck_at = time.monotonic()
        self.say(f"{minute:6.1f} min  {fault.name}: {where}")
        return True

    def _undo_what_is_over(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        due = [undo for at, undo in self._undo if all_of_them or at <= now]
        self._undo = [] if all_of_them else [(at, undo) for at, undo in self._undo if at > now]
        for undo in due:
            undo()

    def _keep_going(self, job: Training, report: Report) -> None:
        """What a lab's services and its user do: start Ray where it ended, resume a job whose driver died."""
        if not self._undo:
            for name in self.lab.revive():
                self.say(f"            Ray was started again on {name}")
        try:
            newest = (len(job.attempts()), job.step())
        except _AWAY:
            return
        now = time.monotonic()
        if newest != self._newest:
            self._newest, self._moved_at, self._looked_at = newest, now, now
        elif report.strikes:
            last = report.strikes[-1]
            last.stands_still = max(last.stands_still, round(now - max(self._moved_at, self._struck_at), 1))
        if report.strikes and not self._undo and now - self._looked_at > _LOST_SECONDS:
            self._resume_if_lost(job, report)
            self._looked_at = time.monotonic() - _LOST_SECONDS + _LOOK_AGAIN_SECONDS

    def _resume_if_lost(self, job: Training, report: Report) -> None:
        """A job whose driver died with its host is resumed; the answer of one that lives is that it runs."""
        try:
            status = job.status()
            if status["state"] in {"LOST", "FAILED"}:
                self.line("resume", job.id)
                report.resumed.append(f"{status['state']} after {report.strikes[-1].name}: {status['message'][:200]}")
                self.say(f"            resumed: {report.resumed[-1]}")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.say(f"            not yet: {str(error).strip().splitlines()[-1][:160]}")

    def _finish(self, job: Training, report: Report) -> None:
        """Stop, and go on for two epochs more than there are: the job shall end as if nothing had happened."""
        self.lab.wait_for_nodes(self.lab.head.host, *(node.host for node in self.lab.workers))
        if job.status()["state"] not in ENDED | {"LOST"}:
            self.line("stop", job.id)
        report.epochs = (job.read("progress.json") or {"epoch": 0})["epoch"] + 2
        self.line("resume", job.id, "--set", f"train.epochs={report.epochs}")
        job.wait(seconds=self.end_within)
        status = job.status()
        report.state = status["state"]
        report.assign(status["attempts"])
        wanted = list(range(1, report.epochs + 1))
        report.metrics_once = all(job.metrics(key) == wanted for key in _METRICS)
