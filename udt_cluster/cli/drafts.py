"""A job file for a folder that was looked at: what was found is filled in, what is a matter of taste is marked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.errors import DataError

if TYPE_CHECKING:
    from data_prep.detect import Guess

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


def draft(source: Path, file: Path) -> Draft:
    """Look at a folder and write its job.

    Args:
        source: The folder.
        file: Where the job file will lie; its comments name it.

    Raises:
        DataError: no layout of images with masks was recognised, or its files do not fit together.
    """
    from data_prep.adapters import get
    from data_prep.detect import detect
    from udt_cluster.config.data import DataConfig
    from udt_cluster.storage import Location

    place = Location.parse(str(source.resolve()))
    guess = detect(place)
    settings = {**guess.settings, "source": place.uri}
    config = DataConfig(adapter=guess.adapter, size=guess.size, **settings)
    discovery = get(guess.adapter).discover(place, config)
    groups = {case.group for case in discovery.cases if case.split != "test"}
    if len(groups) < 2:
        raise DataError(f"{source}: {len(groups)} cases to train on; training and validation need one each at least")
    if not discovery.patients_known:
        settings["group_by"] = "case"
    folds = min(_FOLDS, len(groups))
    return Draft(
        text=_text(source, file, guess, {**settings, "source": str(source.resolve())}, folds),
        adapter=guess.adapter,
        cases=len(discovery.cases),
        found=(*guess.found, f"{len(discovery.cases)} cases", *discovery.warnings),
    )


def _text(source: Path, file: Path, guess: "Guess", settings: Mapping[str, Any], folds: int) -> str:
    folder = source.resolve().name
    return _JOB.format(
        folder=folder,
        found=guess.found[0],
        file=file,
        name=re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:50] or "my-data",
        source=json.dumps(settings["source"], ensure_ascii=False),
        adapter=guess.adapter,
        settings="".join(f"{line}\n" for line in _lines({k: v for k, v in settings.items() if k != "source"})),
        size=list(guess.size),
        folds=folds,
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
