"""A job file for a folder that was looked at: what was found is filled in, what is a matter of taste is marked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.errors import DataError

if TYPE_CHECKING:
    from data_prep.case import Discovery
    from data_prep.detect import Guess
    from udt_cluster.config.data import DataConfig

_FOLDS = 5
_JOB = """\
# yaml-language-server: $schema=job.schema.json
# What:     UDTransNet on {folder}: {found}.
#           Written by `udt-cluster init`; the numbers marked with <- are yours to choose.
# Metric:   your data's; each run prints the score of the all-foreground mask beside its own, as the least to beat.
# Hardware: one worker, on a GPU where there is one. CPU cores are slow: try size: [64, 64] and epochs: 10 first.
# Time:     a training step of 4 samples at 224x224 takes seconds on two CPU cores; see docs/benchmarks.md.
# Command:  udt-cluster submit {file} --wait
version: 1
name: {name}-udtransnet

data:
  source: {source}
  adapter: {adapter}
{settings}  size: {size}              # <- height, width: multiples of 16
  splits: {{k: {folds}}}                # folds over whole groups

model:
  architecture: udtransnet      # unet and r34_unet are the baselines

train:
  epochs: 100                   # <- at most; early_stopping ends a run that gets no better
  global_batch_size: 4          # <- samples per optimizer step

resources:
  workers: 1                    # <- data-parallel workers
"""
_NOTES = {
    "group_by": "this layout does not say which images are of one patient",
    "classes": "foreground classes in the order of their values; name them as you like",
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A job file to begin from, and what the folder told."""

    text: str
    adapter: str
    cases: int
    found: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A folder that was looked at: what it seems to be, its settings, and what the adapter found with them."""

    guess: "Guess"
    config: "DataConfig"
    discovery: "Discovery"

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of `data` that are worth a line in a job file."""
        group_by = {"group_by": self.config.group_by} if self.config.group_by else {}
        return {**group_by, **{name: value for name, value in self.guess.settings.items() if name != "group_by"}}


def look_at(source: str) -> Look:
    """Find out how a folder is read; folds are as many as its groups allow, 5 at most.

    Raises:
        DataError: no layout of images with masks was recognised, or its files do not fit together.
    """
    from data_prep.adapters import get
    from data_prep.detect import detect
    from udt_cluster.config.data import DataConfig, SplitsConfig
    from udt_cluster.storage import Location

    place = Location.parse(source)
    guess = detect(place)
    settings = {name: value for name, value in guess.settings.items() if name != "group_by"}
    config = DataConfig(adapter=guess.adapter, source=place.uri, size=guess.size, **settings)
    discovery = get(guess.adapter).discover(place, config)
    groups = {case.group for case in discovery.cases if case.split != "test"}
    if len(groups) < 2:
        raise DataError(f"{source}: {len(groups)} cases to train on; training and validation need one each at least")
    decided: dict[str, Any] = {"splits": SplitsConfig(k=min(_FOLDS, len(groups)))}
    if not discovery.patients_known:
        decided["group_by"] = "case"
    return Look(guess=guess, config=config.model_copy(update=decided), discovery=discovery)


def draft(source: Path, file: Path) -> Draft:
    """Look at a folder and write its job.

    Args:
        source: The folder.
        file: Where the job file will lie; its comments name it.

    Raises:
        DataError: as :func:`look_at`.
    """
    found = look_at(str(source.resolve()))
    return Draft(
        text=_text(source, file, found),
        adapter=found.guess.adapter,
        cases=len(found.discovery.cases),
        found=(*found.guess.found, f"{len(found.discovery.cases)} cases", *found.discovery.warnings),
    )


def _text(source: Path, file: Path, found: Look) -> str:
    folder = source.resolve().name
    return _JOB.format(
        folder=folder,
        found=found.guess.found[0],
        file=file,
        name=re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:50] or "my-data",
        source=json.dumps(str(source.resolve()), ensure_ascii=False),
        adapter=found.guess.adapter,
        settings="".join(f"{line}\n" for line in _lines(found.settings)),
        size=list(found.guess.size),
        folds=found.config.splits.k,
    )


def _lines(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in settings.items():
        note = f"  # {_NOTES[key]}" if key in _NOTES else ""
        if isinstance(value, Mapping):
            lines += [f"  {key}:", *(f"    {inner}: {_plain(text)}" for inner, text in value.items())]
        else:
            lines.append(f"  {key}: {_plain(value)}{note}")
    return lines


def _plain(value: str | int | Sequence[Any]) -> str:
    """JSON is YAML, and quotes what must be quoted; plain words stay bare."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_/-]*", value) and value.lower() not in _SPOKEN_FOR:
        return value
    return json.dumps(value, ensure_ascii=False)


_SPOKEN_FOR = {"null", "true", "false"}
