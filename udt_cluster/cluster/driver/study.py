"""The stage `study`: every arm on every fold and seed, scored case by case, and the answer with its statistics."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.driver.desk import Manner, cost_on, run_trials
from udt_cluster.cluster.driver.stages import PreparedData, Say, Scope, prepare
from udt_cluster.cluster.plan import scratch_folder
from udt_cluster.cluster.record import JobRecord
from udt_cluster.config.arms import arms_of, datasets_of, is_about, is_about_skips, skip_levels
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError
from udt_cluster.search.trials import Trial
from udt_cluster.storage import Location, upload_folder

if TYPE_CHECKING:
    from udt_cluster.studies import Design, Findings, ScoreFile, ScoreTable

REPORT = "study"
"""Folder of the report, in the job's record and among the artifacts of its run."""
_TRAINED_BY = "val_dice"


@dataclass(frozen=True)
class Answered:
    """What the study came to."""

    facts_: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """The conclusion, and how many arms and runs it rests on."""
        return self.facts_


def study(scope: Scope, prepared: PreparedData, say: Say) -> Answered:
    """Train and score every arm, those that an earlier life of the job has not; then analyse.

    Raises:
        JobFailedError: there is nothing to compare.
    """
    from udt_cluster.search.sweep import Course

    data = _all_prepared(scope, prepared, say)
    course = Course.of_study(scope.job, {name: cost_on(one) for name, one in data.items()})
    manner = Manner(_TRAINED_BY, what="arm", scores=True)
    trials = run_trials(scope, data, course, manner, say).trials
    findings, table = analyse(scope.record, scope.job, trials)
    _keep(scope, findings, table)
    for sentence in findings.conclusion:
        say(sentence)
    scored = sum(len(trial.runs) for trial in trials)
    return Answered({"conclusion": list(findings.conclusion), "arms": len(trials), "runs": scored})


def _all_prepared(scope: Scope, prepared: PreparedData, say: Say) -> dict[str, PreparedData]:
    """The study's data sets by name; those beside the job's own are brought into storage now."""
    found = {scope.job.data.dataset: prepared}
    for name, data in list(datasets_of(scope.job).items())[1:]:
        meta = replace(scope.meta, data_version="", group_by="", warnings=())
        found[name] = prepare(replace(scope, job=scope.job.with_data(data), meta=meta, life=None), say)
    own = {"data_version": prepared.facts_["version"], "split_hash": prepared.facts_["split_hash"]}
    scope.tracker.set_tags(scope.meta.run_id, own)  # each preparation has set its own
    return found


def analyse(record: JobRecord, job: Job, trials: Iterable[Trial]) -> "tuple[Findings, ScoreTable]":
    """The answer from the scores that there are; what is missing is said in it.

    Args:
        record: Where the scores lie.
        job: With its section `study`.
        trials: Its arms, as far as they have come.

    Raises:
        JobFailedError: no run has been scored.
    """
    from udt_cluster.studies import ScoreTable, analyze

    arms = list(trials)
    table = ScoreTable.from_files(_files(record, arms, own=job.data.dataset))
    if not table.rows:
        told = [f"{trial.point.get('arm')}: {trial.message}" for trial in arms if trial.message]
        raise JobFailedError("no arm has been scored", told[:8])
    return analyze(table, design_of(job, arms)), table


def _files(record: JobRecord, arms: Iterable[Trial], *, own: str) -> "Iterator[ScoreFile]":
    from udt_cluster.studies import RunKey, ScoreFile

    for arm in arms:
        for run in arm.runs:
            place = record.runs / run.run / "scores" / "validation" / "per_case.csv"
            names = {"dataset": str(arm.point.get("dataset", own)), "arm": str(arm.point["arm"])}
            key = RunKey(**names, fold=run.fold, seed=run.seed)
            yield ScoreFile(run=key, location=place)


def design_of(job: Job, trials: Iterable[Trial]) -> "Design":
    """The section `study` as the analysis takes it."""
    from udt_cluster.studies import Arm, Contrast, Design

    section = job.study
    assert section is not None, "a job without a study"
    costs = {str(trial.point["arm"]): trial for trial in sorted(trials, key=lambda trial: -trial.number)}
    about_skips, about_share = is_about_skips(job), is_about(job, "train.share")
    arms = tuple(
        Arm(
            name=name,
            settings=settings,
            parameters=costs[name].parameters,
            gmac=costs[name].gmac,
            position=_share(settings) if about_share else None,
            skips=skip_levels(job, settings) if about_skips else None,
            skip_kinds=job.with_settings(settings).model.skip_kinds if about_skips else (),
        )
        for name, settings in arms_of(job).items()
        if name in costs
    )
    return Design(
        name=job.name,
        question=section.question,
        arms=arms,
        reference=section.reference,
        metrics=job.evaluate.metrics,
        comparisons=tuple(Contrast.between(first, second) for first, second in section.comparisons),
        datasets=tuple(datasets_of(job)),
        folds=len(job.repeat.folds),
        seeds=job.repeat.seeds,
        group="patient" if all(data.group_by != "case" for data in datasets_of(job).values()) else "case",
        position_label="share of the training cases",
        margin=section.margin,
    )


def _share(settings: Mapping[str, Any]) -> float:
    """The arm's place on a curve of data shares."""
    return float(settings.get("train.share", 1.0))


def _keep(scope: Scope, findings: "Findings", table: "ScoreTable") -> None:
    """The report, in the job's record and in MLflow."""
    from udt_cluster.studies import write_report

    work = scratch_folder()
    write_report(findings, work / REPORT, table=table)
    folder: Location = scope.record.folder / REPORT
    folder.delete_tree()
    upload_folder(work / REPORT, folder)
    scope.tracker.log_folder(scope.meta.run_id, work / REPORT, REPORT)
    scope.tracker.log_text(scope.meta.run_id, json.dumps(list(findings.conclusion), indent=1), "conclusion.json")
    shutil.rmtree(work)
