"""ACDC as published: `training/patientNNN/{Info.cfg, patientNNN_frameMM.nii.gz, patientNNN_frameMM_gt.nii.gz}`."""

import re
from collections import defaultdict

from data_prep.adapters.pairs import Pairs, match
from data_prep.adapters.volumes import read_volumes
from data_prep.case import Case, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.source import SourceTree, natural_order
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FRAME = re.compile(
    r"(?:(?P<part>.+)/)?(?P<patient>patient\d+)/(?P<name>(?P=patient)_frame(?P<frame>\d+))(?P<mask>_gt)?\.nii(?:\.gz)?"
)
_TEST_FOLDERS = ("testing", "test")
_SHOWN = 5


def recognises(tree: SourceTree) -> bool:
    """Whether the source has this layout."""
    return any(_FRAME.fullmatch(key) for key in tree.entries)


def discover(tree: SourceTree) -> Discovery:
    """List the frames, their masks, and what Info.cfg says of the patients."""
    found = {key: frame for key in tree.entries if (frame := _FRAME.fullmatch(key))}
    masks = {key: frame["name"] for key, frame in found.items() if frame["mask"]}
    unlabelled = _folders_without_masks(found)
    images = {
        key: frame["name"]
        for key, frame in found.items()
        if not frame["mask"] and (frame["part"] or "") not in unlabelled
    }
    pairs = match(images, masks)
    if pairs.problems:
        raise DataError(f"{tree.location}: frames and masks of this ACDC data set do not fit together", pairs.problems)
    infos = {patient: key for key in tree.entries if (patient := _patient_of_info(key))}
    texts = {patient: tree.read_text(key) for patient, key in infos.items()}
    cases = _cases(pairs, found, texts)
    files = tree.select([*images, *masks, *infos.values()])
    return Discovery(
        cases=cases, patients_known=True, files=files, warnings=(*_left_out(unlabelled), *_without_info(cases, texts))
    )


def read(source: Location, case: Case, rule: LabelRule) -> RawCase:
    """Image and mask, both in canonical orientation and on one grid.

    Raises:
        CaseError: everything that is wrong with either.
    """
    return read_volumes(source, case, rule)


def _cases(pairs: Pairs, found: dict[str, re.Match[str]], texts: dict[str, str]) -> tuple[Case, ...]:
    cases = []
    for name, (image, mask) in pairs.complete.items():
        frame = found[image]
        test = (frame["part"] or "").rpartition("/")[2] in _TEST_FOLDERS
        cases.append(
            Case(
                id=name,
                group=frame["patient"],
                split="test" if test else "train",
                images=(image,),
                labels=(mask,),
                meta=_meta(texts.get(frame["patient"], ""), int(frame["frame"])),
            )
        )
    return tuple(sorted(cases, key=lambda case: natural_order(case.id)))


def _meta(info: str, frame: int) -> dict[str, str]:
    """Phase of the frame and pathology of the patient; height and weight stay where they are."""
    values = dict(re.findall(r"^\s*(\w+)\s*:\s*(\S+)\s*$", info, re.MULTILINE))
    phases = {values[phase]: phase for phase in ("ED", "ES") if phase in values}
    meta = {"pathology": values.get("Group", ""), "phase": phases.get(str(frame), "")}
    return {name: value for name, value in meta.items() if value}


def _patient_of_info(key: str) -> str | None:
    folder, _, name = key.rpartition("/")
    patient = folder.rpartition("/")[2]
    return patient if name == "Info.cfg" and re.fullmatch(r"patient\d+", patient) else None


def _folders_without_masks(found: dict[str, re.Match[str]]) -> dict[str, int]:
    """Test folders in which no frame at all has a mask (the challenge kept them back at first): frames in each."""
    frames: dict[str, list[bool]] = defaultdict(list)
    for frame in found.values():
        frames[frame["part"] or ""].append(bool(frame["mask"]))
    return {
        part: len(masks)
        for part, masks in frames.items()
        if part.rpartition("/")[2] in _TEST_FOLDERS and not any(masks)
    }


def _left_out(unlabelled: dict[str, int]) -> list[str]:
    return [f"{part}: none of its {count} frames has a mask; they are left out." for part, count in unlabelled.items()]


def _without_info(cases: tuple[Case, ...], texts: dict[str, str]) -> list[str]:
    missing = sorted({case.group for case in cases} - set(texts), key=natural_order)
    if not missing:
        return []
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return [f"no Info.cfg for {', '.join(missing[:_SHOWN])}{more}: phase and pathology are unknown."]
