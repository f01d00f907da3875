"""Case ids that look like a person's name, a date of birth or a number of a hospital.

The rules are made to be quiet on the ids of published data sets (`patient001`, `case0005`, `ISIC_0000000`,
`TCGA-A6-6782`, `train_12`, `BraTS20_Training_001`) and on counters; a name in small letters without a sign between
its parts cannot be told from a word.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from data_prep.privacy.trace import words

_COLLECTIONS = re.compile(
    r"(?:ISIC|TCGA|BraTS|LIDC-IDRI|CPTAC|Prostate3T|ProstateX|KiTS|LiTS|AMOS|FLARE|TotalSegmentator|COCO|CHAOS|DRIVE)"
    r"(?=[-_.\d])",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"(?:^|[^a-z])(?:case|img|image|im|slice|slide|tile|frame|train|test|val|validation|training|testing|sample|scan|"
    r"volume|vol|mask|label|fold|series)[-_ ]?0\d+$",
    re.IGNORECASE,
)
_RUN = re.compile(r"\d{6,}")
_SEPARATED_DATE = re.compile(r"(?<!\d)(?:(\d{4})([-_.])(\d\d)\2(\d\d)|(\d\d)([-_.])(\d\d)\6(\d{4}))(?!\d)")
_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}")
_HEX = re.compile(
    r"(?<![0-9a-z])(?:p[0-9a-f]{20}|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{12,})(?![0-9a-z])", re.IGNORECASE
)
_BETWEEN = re.compile(r"[_^,;.\s-]+")
_NO_NAMES = words(
    """
    Train Training Test Testing Val Valid Validation Case Patient Subject Image Img Slice Slide Scan Series Study Mask
    Label Labels Image Images Frame Frames Volume Tile Part Set Data Dataset Folder Left Right Upper Lower Axial Coronal
    Sagittal Tumor Tumour Benign Malignant Normal Healthy Liver Kidney Heart Lung Brain Spleen Prostate Colon Breast
    Skin Gland Glands Cell Cells Nuclei Nucleus Stain Flair Contrast Phase Site Center Centre Hospital Scanner Group
    Control Lesion Infection Covid Segmentation Annotation Input Ground Truth Original Reader Session Run Visit Before
    After Baseline Follow Up Pre Post High Low Grade Stage Type Class Positive Negative Unknown Anonymous Anon
    Task Hippocampus Cardiac Pancreas Hepatic Vessel Human Mouse Rat Sample Section Region Area Field View
    """
)


@dataclass(frozen=True)
class Suspicion:
    """An id that looks as if it told who the patient is."""

    id: str
    reason: str


def suspicious_ids(ids: Iterable[str]) -> list[Suspicion]:
    """Those of some case ids or patient names that look like a name, a date or a number of a person, in their order."""
    found = ((name, reason) for name in ids for reason in [_reason(name)] if reason)
    return [Suspicion(name, reason) for name, reason in found]


def _reason(name: str) -> str | None:
    for part in name.split("/"):
        if _UID.search(part):
            return "a DICOM UID"
        if _COLLECTIONS.match(part):
            continue
        rest = _HEX.sub("", part)
        if _has_date(rest):
            return "a date"
        if _RUN.search(rest) and not _COUNTED.search(rest):
            return "a number of six or more digits"
        if _is_name(rest):
            return "a person's name"
    return None


def _has_date(text: str) -> bool:
    for found in _SEPARATED_DATE.finditer(text):
        year, month, day = (found[1], found[3], found[4]) if found[1] else (found[8], found[7], found[5])
        if _is_day(year, month, day) or _is_day(year, day, month):
            return True
    runs = (run for run in re.findall(r"(?<!\d)\d{8}(?!\d)", text) if not _COUNTED.search(text))
    return any(_is_day(r[:4], r[4:6], r[6:]) or _is_day(r[4:], r[2:4], r[:2]) for r in runs)


def _is_day(year: str, month: str, day: str) -> bool:
    if not 1900 <= int(year) <= 2100:
        return False
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _is_name(text: str) -> bool:
    """`Mueller_Anna`, `Mueller, Anna`, `MUELLER^ANNA`, `Anna-Lena Mueller 3`: two or more words that are all names."""
    if "^" in text.strip("^"):
        return True
    words = [word for word in _BETWEEN.split(text) if word and not word.isdecimal()]
    return (
        2 <= len(words) <= 4
        and all(len(word) >= 2 and word.isalpha() and word[0].isupper() and word[1:].islower() for word in words)
        and not any(word in _NO_NAMES for word in words)
    )
