"""Explain a trained model on cases of a store: a folder with tables, pictures and one page."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from udt_cluster.data import DataStore
from udt_cluster.errors import DataError, UsageError
from udt_cluster.evaluation.explain.findings import Findings, write_tables
from udt_cluster.evaluation.explain.look import CaseLook, CaseViewer, choose_cases
from udt_cluster.evaluation.explain.measure import MemberFindings, MemberMeasure
from udt_cluster.evaluation.explain.network import Network, as_network
from udt_cluster.evaluation.explain.page import render
from udt_cluster.evaluation.explain.pictures import draw_all
from udt_cluster.evaluation.explain.settings import ExplainSettings
from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.score import check_fit
from udt_cluster.evaluation.spec import complete_folder

REPORT_NAME, PAGE_NAME = "explain.json", "explain.html"

Progress = Callable[[int, int], None]
"""Told after each case how many are done, of how many."""


def explain(
    model: SegmentationModel,
    store: DataStore,
    cases: Sequence[Sequence[int]],
    *,
    output: Path,
    settings: ExplainSettings | None = None,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what the skips of a model do, without training anything.

    Per level: by how much Dice falls when the skip is zeroed or taken from another case, how alike the features on both
    of its sides are (linear CKA), which channels it uses, and where its attention looks.

    Args:
        model: A udtransnet, unet or r34_unet, or an ensemble of them.
        store: Where samples and native labels are; prepared as for the model's training.
        cases: For each member of the ensemble rows of the store's case table: those that it has not been trained on.
        output: New folder for ``explain.json``, ``explain.html``, tables and pictures; appears when all is written.
        settings: What is drawn.
        about: Said at the top of the page: which model, which data.
        notes: What else a reader must know; said with the warnings.
        progress: Called after each case.

    Returns:
        What ``explain.json`` holds.

    Raises:
        DataError: no cases, or a model that does not fit the store.
        UsageError: another network, a class or place that there is not, or something lies in the folder already.
    """
    settings = settings or ExplainSettings()
    networks = [as_network(network) for network in model.networks]
    _check(model, networks, store, cases, settings)
    with complete_folder(output) as folder, torch.inference_mode():
        findings = _find(model, networks, store, cases, settings=settings, progress=progress)
        report = _report(model, store, findings, about=about or {}, settings=settings)
        report["warnings"] = [*notes, *report["warnings"]]
        write_tables(folder, findings, model.spec.model.scales)
        text = json.dumps(_plain(report), indent=2, allow_nan=False)
        (folder / REPORT_NAME).write_text(text + "\n", encoding="utf-8")
        pictures = draw_all(findings, report, model.spec.model.scales)
        for name, picture in pictures.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(picture)
        (folder / PAGE_NAME).write_text(render(report, findings, pictures), encoding="utf-8")
    return report


def _check(
    model: SegmentationModel,
    networks: Sequence[Network],
    store: DataStore,
    cases: Sequence[Sequence[int]],
    settings: ExplainSettings,
) -> None:
    if len(cases) != len(networks):
        raise UsageError(f"{len(cases)} lists of cases for {len(networks)} members; each member has its own")
    if not all(len(own) for own in cases):
        raise DataError("there are no cases to explain the model on")
    names = model.class_names[1:]
    if settings.class_name is not None and settings.class_name not in names:
        raise UsageError(f"class {settings.class_name!r} is not one of the model's: {', '.join(names)}")
    if settings.at is not None and not all(0 <= share <= 1 for share in settings.at):
        raise UsageError(f"the place {settings.at} must be two shares from 0 to 1, of the height and of the width")
    check_fit(model, store)


def _find(
    model: SegmentationModel,
    networks: Sequence[Network],
    store: DataStore,
    cases: Sequence[Sequence[int]],
    *,
    settings: ExplainSettings,
    progress: Progress | None,
) -> Findings:
    done, total = 0, sum(map(len, cases))

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    members = [
        MemberMeasure(model, member, network, store, settings).run(own, tell)
        for member, (network, own) in enumerate(zip(networks, cases, strict=True))
    ]
    looks = _looks(CaseViewer(model, networks[0], store, settings), members[0], store, settings)
    return Findings(members=members, looks=looks, class_names=model.class_names, skips=tuple(networks[0].skips))


def _looks(viewer: CaseViewer, member: MemberFindings, store: DataStore, settings: ExplainSettings) -> list[CaseLook]:
    """The drawn cases of the first member; of a network without skips the effects say nothing, and none is drawn."""
    chosen = choose_cases(member.effects, settings.pictures)
    return [
        viewer.look(store.cases.ids.index(case), why=why, effects=[e for e in member.effects if e.case == case])
        for case, why in chosen.items()
    ]


def _report(
    model: SegmentationModel,
    store: DataStore,
    findings: Findings,
    *,
    about: Mapping[str, str],
    settings: ExplainSettings,
) -> dict[str, Any]:
    config = model.spec.model
    return {
        "about": dict(about),
        "architecture": config.architecture,
        "skips": list(findings.skips),
        "class_names": list(model.class_names),
        "members": len(findings.members),
        "cases": len(findings.cases),
        "groups": len(set(findings.cases.values())),
        "donors_of_other_groups": all(member.donors.other_groups for member in findings.members),
        "seed": settings.seed,
        "effects": findings.effect_rows(),
        "similarity": findings.similarity_rows(),
        "channels": findings.channel_rows(),
        "warnings": findings.warnings(
            head_merge=config.head_merge if config.architecture == "udtransnet" else None,
            heads=config.num_heads,
            patients_known=bool(store.info.provenance.get("patients_known", True)),
        ),
    }


def _plain(value: Any) -> Any:
    """JSON values; an undefined number is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
