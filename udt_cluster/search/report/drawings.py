"""All figures of a sweep, by the section of the page in which they stand."""

from collections.abc import Iterator
from dataclasses import dataclass

from udt_cluster.search.report.canvas import Chart
from udt_cluster.search.report.chart_history import at_rungs, by_epochs, by_trial
from udt_cluster.search.report.chart_parallel import parallel
from udt_cluster.search.report.chart_pareto import fronts
from udt_cluster.search.report.chart_settings import importance, slices
from udt_cluster.search.report.importance import Importances, of_first_rung, of_scores
from udt_cluster.search.report.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """The figures of a sweep; a section has none where the trials do not yield one.

    Attributes:
        importances: Of the scores, and where trials were pruned, of the first rung; each with its figure or None.
        history: Scores by trial and by epochs.
        rungs: Values at the rungs.
        parallel: All settings side by side.
        slices: One for each setting that varies.
        pareto: Score against costs.
    """

    importances: tuple[tuple[Importances, Chart | None], ...] = ()
    history: tuple[Chart, ...] = ()
    rungs: tuple[Chart, ...] = ()
    parallel: tuple[Chart, ...] = ()
    slices: tuple[Chart, ...] = ()
    pareto: tuple[Chart, ...] = ()

    def __iter__(self) -> Iterator[Chart]:
        yield from (chart for _, chart in self.importances if chart is not None)
        for section in (self.history, self.rungs, self.parallel, self.slices, self.pareto):
            yield from section


def drawings(sweep: Sweep) -> Drawings:
    """Draw everything that the trials yield; call it in :func:`udt_cluster.search.report.canvas.house_style`."""
    if not sweep.trials:
        return Drawings()
    found = [("importance", of_scores(sweep))]
    if sweep.counts["pruned"]:
        found.append(("importance_first_rung", of_first_rung(sweep)))
    order = next(([one.parameter for one in each.found] for _, each in found if each.found), [])
    ended = any(trial.has_ended for trial in sweep.trials)
    return Drawings(
        importances=tuple((each, importance(each, name)) for name, each in found),
        history=_those(
            by_trial(sweep),
            by_epochs(sweep) if ended else None,
        ),
        rungs=_those(at_rungs(sweep)),
        parallel=_those(parallel(sweep, order)),
        slices=tuple(slices(sweep)),
        pareto=tuple(fronts(sweep)),
    )


def _those(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)
