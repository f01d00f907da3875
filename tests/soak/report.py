"""What a soak found, for people and for programs."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.soak.leaks import Holdings


@dataclass
class Strike:
    """One fault that happened.

    Attributes:
        minute: Since the first one could happen.
        at: Seconds since 1970.
        stands_still: Longest time without a new step from this fault to the next.
        ended: The kinds of the attempts that ended meanwhile.
        lost_steps: Steps that they had done and lost.
    """

    name: str
    where: str
    minute: float
    at: float
    stands_still: float = 0.0
    ended: list[str] = field(default_factory=list)
    lost_steps: int = 0


@dataclass
class Report:
    """The whole soak."""

    seed: int
    minutes: float
    job: str = ""
    state: str = ""
    epochs: int = 0
    resumed: list[str] = field(default_factory=list)
    metrics_once: bool = False
    strikes: list[Strike] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    before: Holdings | None = None
    after: Holdings | None = None

    def assign(self, attempts: list[dict[str, Any]]) -> None:
        """Say of every fault which attempts it ended."""
        self.attempts = attempts
        for number, strike in enumerate(self.strikes):
            until = self.strikes[number + 1].at if number + 1 < len(self.strikes) else float("inf")
            ended = [entry for entry in attempts if strike.at <= _seconds(entry["ended_at"]) < until]
            strike.ended = [entry["kind"] for entry in ended if entry["kind"] != "finished"]
            strike.lost_steps = sum(entry["lost_steps"] for entry in ended)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost and nothing is left."""
        return self.state == "SUCCEEDED" and self.metrics_once and not self.leaks

    def markdown(self) -> str:
        """A table of faults by kind, one of what is held, and the verdict."""
        lines = [
            f"seed {self.seed}, {self.minutes:.0f} minutes, {len(self.strikes)} faults, {len(self.attempts)} attempts, "
            f"resumed {len(self.resumed)} times by hand: {self.state}, {self.epochs} epochs, every metric once: "
            f"{'yes' if self.metrics_once else 'NO'}",
            "",
            "| fault | times | attempts ended | steps lost | longest stand-still, s (median; most) |",
            "|---|---:|---|---:|---|",
            *(self._line(name) for name in sorted({strike.name for strike in self.strikes})),
        ]
        if self.before and self.after:
            lines += ["", "| held by all hosts | before | after |", "|---|---:|---:|"]
            later = asdict(self.after)
            lines += [
                f"| {name.replace('_', ' ')} | {value} | {later[name]} |" for name, value in vars(self.before).items()
            ]
        if self.resumed:
            lines += ["", "Resumed by hand, because:", "", *(f"- {reason}" for reason in self.resumed)]
        return "\n".join([*lines, "", f"Leaks: {'; '.join(self.leaks) or 'none'}.", ""])

    def _line(self, name: str) -> str:
        ours = [strike for strike in self.strikes if strike.name == name]
        kinds = [kind for strike in ours for kind in strike.ended]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "none"
        still = sorted(strike.stands_still for strike in ours)
        lost = sum(strike.lost_steps for strike in ours)
        return f"| {name} | {len(ours)} | {counts} | {lost} | {still[len(still) // 2]:.0f}; {still[-1]:.0f} |"

    def write(self, folder: Path) -> None:
        """Keep both forms as `soak.md` and `soak.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "soak.md").write_text(self.markdown())
        (folder / "soak.json").write_text(json.dumps(asdict(self), indent=1))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0
