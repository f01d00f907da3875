"""The job: one frozen tree of settings, each documented where it is declared.

A job says *what* is to be done; a target profile says *where*. Unknown keys are refused, and nothing is changed after
load: what a stage needs to know beyond this (the data version, the device) is passed beside the job.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from udt_cluster.config.combinations import contradictions, worker_counts
from udt_cluster.config.data import DataConfig
from udt_cluster.config.problems import flow
from udt_cluster.config.section import Name, Section
from udt_cluster.config.sections import EvaluateConfig as EvaluateConfig
from udt_cluster.config.sections import ModelConfig as ModelConfig
from udt_cluster.config.sections import RegisterConfig as RegisterConfig
from udt_cluster.config.sections import RepeatConfig as RepeatConfig
from udt_cluster.config.sections import ResourcesConfig as ResourcesConfig
from udt_cluster.config.sections import RetryConfig as RetryConfig
from udt_cluster.config.sections import TrainConfig as TrainConfig
from udt_cluster.config.study import StudyConfig as StudyConfig
from udt_cluster.config.tune import TuneConfig as TuneConfig
from udt_cluster.errors import VersionError

Stage = Literal["prepare", "tune", "study", "train", "evaluate", "register"]

SCHEMA_VERSION: Literal[1] = 1
STAGES: tuple[Stage, ...] = ("prepare", "tune", "train", "evaluate", "register")
WITHOUT_SWEEP: tuple[Stage, ...] = ("prepare", "train", "evaluate", "register")
STUDY: tuple[Stage, ...] = ("prepare", "study")


def _all_stages(values: dict[str, Any]) -> tuple[Stage, ...]:
    if values.get("study") is not None:
        return STUDY
    return WITHOUT_SWEEP if values.get("tune") is None else STAGES


class Job(Section):
    """A job file."""

    version: Literal[1] = SCHEMA_VERSION
    """Version of this format."""
    name: Name
    """Lower-case letters, digits and dashes, at most 63, beginning with a letter or digit."""
    data: DataConfig
    """The data set."""
    model: ModelConfig = ModelConfig()
    """The network."""
    train: TrainConfig = TrainConfig()
    """The recipe."""
    repeat: RepeatConfig = RepeatConfig()
    """Folds and seeds."""
    resources: ResourcesConfig = ResourcesConfig()
    """Workers."""
    retry: RetryConfig = RetryConfig()
    """What happens when something dies."""
    tune: TuneConfig | None = None
    """A sweep: which settings are best on this data."""
    study: StudyConfig | None = None
    """A study: one question about this data, answered with paired statistics."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Scores."""
    register_: Annotated[RegisterConfig, Field(alias="register")] = RegisterConfig()
    """The registry."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, default_factory=_all_stages)]
    """What is done, in this order: prepare, tune (where there is a section `tune`), train, evaluate, register. With a
    section `study`: prepare, study."""

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if stages == STUDY:
            return stages
        expected = tuple(stage for stage in STAGES if stage in stages)
        if stages != expected:
            raise ValueError(f"stages run in the order {flow(expected)}, each once")
        needs = {"tune": "prepare", "train": "prepare", "evaluate": "train", "register": "evaluate"}
        for stage, needed in needs.items():
            if stage in stages and needed not in stages:
                wanted = STAGES if "tune" in stages else WITHOUT_SWEEP
                raise ValueError(f"{stage} needs {needed}; write {flow(wanted[: wanted.index(stages[-1]) + 1])}")
        return stages

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> Self:
        for sentence in contradictions(self):
            raise ValueError(sentence)
        return self

    @model_validator(mode="after")
    def _sweep_is_done(self) -> Self:
        if self.tune is None and "tune" in self.stages:
            raise ValueError("stages: tune needs a section tune that says what is searched")
        if self.tune is not None and "tune" not in self.stages:
            raise ValueError(f"stages: the sweep of the section tune is not done; write {flow(STAGES)}")
        if (self.study is not None) != ("study" in self.stages):
            raise ValueError(f"stages: a job with a section study has the stages {flow(STUDY)}, and no other job has")
        return self

    @property
    def model_name(self) -> str:
        """Name in the registry."""
        return self.register_.model or self.name

    @property
    def worker_counts(self) -> tuple[int, ...]:
        """Numbers of workers that the job may run with, ascending: those that can share the global batch."""
        return worker_counts(self)

    def to_json(self) -> str:
        """The resolved job as canonical JSON: sorted keys, no white space, every default written out."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            VersionError: another version of this package wrote it, whose jobs had other fields.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise VersionError(
                "it was submitted by another version of udt-cluster, whose job files were different; use that version, "
                "or submit the job anew",
                [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()],
            ) from error

    def changed(self, **settings: Any) -> Self:
        """The job with other settings, checked as a file is: of a section only the fields that are named change."""
        values = self.model_dump(mode="json", by_alias=True)
        merged = {name: values[name] | new if isinstance(new, dict) else new for name, new in settings.items()}
        return type(self).from_json(json.dumps(values | merged))

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """The job with other values of dotted fields and without its sweep: what one trial trains.

        Raises:
            ValidationError: such a job cannot be.
        """
        values = self.model_dump(mode="json", by_alias=True)
        stages = WITHOUT_SWEEP if self.study else [stage for stage in self.stages if stage != "tune"]
        values |= {"tune": None, "study": None, "stages": stages}
        for name, value in settings.items():
            section, _, field = name.partition(".")
            values[section] = values[section] | {field: value}
        return type(self).model_validate_json(json.dumps(values))

    def with_data(self, data: DataConfig) -> Self:
        """The job on another data set, without its study.

        Raises:
            ValidationError: such a job cannot be.
        """
        values = self.model_dump(mode="json", by_alias=True)
        values |= {"data": data.model_dump(mode="json", by_alias=True), "study": None, "stages": WITHOUT_SWEEP}
        return type(self).model_validate_json(json.dumps(values))

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
