"""`dicom`: series of slices, and masks as DICOM segmentations, NIfTI volumes or pictures.

Nothing of a header is stored: a case is called by a hash of its SeriesInstanceUID, and a patient by the first of the
cases, so that neither a name nor a hospital number can be found again by trying them all.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_prep.adapters.dicom_masks import MaskFiles, read_label
from data_prep.adapters.pairs import attempt, read_bytes
from data_prep.case import Adapter, Case, CaseError, Discovery, RawCase
from data_prep.readers import ReaderError
from data_prep.readers.dicom import START_BYTES, DicomHeader, Frame, quiet_warnings, read_frames, read_header
from data_prep.readers.dicom_meta import is_dicom
from data_prep.readers.dicom_series import Placed, Series, stack
from data_prep.source import SourceTree, natural_order
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import AuthError, DataError
from udt_cluster.storage import Location

_NAMED_SO = (".dcm", ".dicom", ".ima")
_OTHERS = (".nii", ".gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".json", ".txt", ".csv", ".xml")
_THREADS = 8
_DIGITS = 12
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
"""Letters alone, since a hash with many digits in a row would look like a hospital number."""


@dataclass(frozen=True, kw_only=True)
class _Image:
    """What will be a case: the files of a series, or one file that does not say where it lies in the body."""

    id: str
    series: str
    patient: str
    files: tuple[str, ...]


class Dicom:
    """Classes are those of `data.classes`, by the segments' labels, or by their numbers with `data.label_values`."""

    name = "dicom"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """`data.classes`, or one class called foreground."""
        return ("background", *(config.classes or ("foreground",)))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Group the files to series by their headers, and find the masks of each."""
        tree = SourceTree.of(source)
        headers, broken = _headers(tree)
        images = _images(headers)
        if not images and not broken:
            raise DataError(f"{source}: there are no DICOM images. data.source must hold the files of the series.")
        segmentations: dict[str, list[str]] = defaultdict(list)
        for key, header in headers.items():
            for series in header.segmented if header.kind == "segmentation" else ():
                segmentations[series].append(key)
        masks = MaskFiles(tree, config.pairs, segmentations, {image.series: image.files for image in images})
        labels = {image.id: masks.of(image.series, image.files) for image in images}
        if problems := [*masks.problems, *masks.unused()]:
            raise DataError(f"{source}: {len(problems)} images or masks have no partner", problems)
        kept = [image for image in images if labels[image.id]]
        used = [key for image in kept for key in (*image.files, *labels[image.id])]
        return Discovery(
            cases=(*(_unreadable(key) for key in broken), *_cases(kept, labels)),
            patients_known=all(image.patient for image in kept),
            files=tree.select([*used, *broken]),
            warnings=tuple(_warnings(headers, kept, len(images) - len(kept))),
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One series as a volume, or one image."""
        problems: list[str] = []
        with quiet_warnings():
            if not case.labels:
                raise CaseError(_look(source, case.images[0])[1] or [f"{case.images[0]}: belongs to no series"])
            series = _series(source, case, problems)
            label = read_label(source, case, series, config, problems) if series else None
        if problems or series is None or label is None:
            raise CaseError(problems)
        image = series.turned(series.pixels)
        planes = image.voxels if image.voxels.ndim == 4 else image.voxels[:, None]
        return RawCase(image=np.ascontiguousarray(planes), label=label, spacing=image.spacing, affine=image.affine)


def _headers(tree: SourceTree) -> tuple[dict[str, DicomHeader], list[str]]:
    """The headers of all DICOM files by key, and the keys of those that are broken or only called DICOM."""
    keys = [key for key in tree.entries if not key.lower().endswith(_OTHERS) and not key.endswith("DICOMDIR")]
    with quiet_warnings(), ThreadPoolExecutor(_THREADS, thread_name_prefix="udt-dicom") as pool:
        found = dict(zip(keys, pool.map(partial(_look, tree.location), keys), strict=True))
    headers = {key: header for key, (header, _) in found.items() if header}
    return headers, sorted((key for key, (_, problems) in found.items() if problems), key=natural_order)


def _look(source: Location, key: str) -> tuple[DicomHeader | None, list[str]]:
    problems: list[str] = []
    return attempt(problems, key, partial(_read_header, source, key)), problems


def _read_header(source: Location, key: str) -> DicomHeader | None:
    """None where it is no DICOM file, and is not called one."""
    try:
        start = (source / key).read_bytes(end=START_BYTES)
    except AuthError as error:
        raise ReaderError("may not be read; check its owner and mode") from error
    if not is_dicom(start) and not key.lower().endswith(_NAMED_SO):
        return None
    complete = len(start) < START_BYTES
    return read_header(start, complete=complete) or read_header(read_bytes(source, key), complete=True)


def _images(headers: Mapping[str, DicomHeader]) -> list[_Image]:
    by_series: dict[str, list[str]] = defaultdict(list)
    for key in sorted(headers, key=natural_order):
        if headers[key].kind == "image":
            by_series[headers[key].series].append(key)
    images = []
    for series, keys in by_series.items():
        first = headers[keys[0]]
        if len(keys) == 1 or any(headers[key].placed for key in keys):
            name = f"series-{_digest(series)}"
            images.append(_Image(id=name, series=series, patient=first.patient, files=tuple(keys)))
            continue
        images += [
            _Image(id=f"image-{_digest(headers[k].instance)}", series=series, patient=headers[k].patient, files=(k,))
            for k in keys
        ]
    return images


def _unreadable(key: str) -> Case:
    """A file that belongs to nothing yet is a case, so that `data.on_bad_case` decides about it and not discovery."""
    name = f"file-{_digest(key)}"
    return Case(id=name, group=name, split="unknown", images=(key,), labels=())


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:_DIGITS].translate(_LETTERS)


def _cases(images: Sequence[_Image], labels: Mapping[str, tuple[str, ...]]) -> tuple[Case, ...]:
    ordered = sorted(images, key=lambda image: natural_order(image.id))
    first_of: dict[str, str] = {}
    for image in ordered:
        first_of.setdefault(image.patient or image.id, image.id)
    return tuple(
        Case(
            id=image.id,
            group=f"patient-of-{first_of[image.patient or image.id]}",
            split="unknown",
            images=image.files,
            labels=labels[image.id],
        )
        for image in ordered
    )


def _warnings(headers: Mapping[str, DicomHeader], kept: Sequence[_Image], left_out: int) -> list[str]:
    warnings = []
    if others := sum(header.kind == "other" for header in headers.values()):
        warnings.append(f"{others} DICOM files are neither images nor segmentations; they are left out.")
    if left_out:
        warnings.append(f"{left_out} series have no segmentation, where others have one; they are left out.")
    if nameless := sum(not image.patient for image in kept):
        warnings.append(f"patients unknown: {nameless} of {len(kept)} series have no PatientID, so folds may leak.")
    elif len(kept) > 1 and len({image.patient for image in kept}) == 1:
        warnings.append(
            "all series have the same PatientID. If anonymisation made it so, set data.group_by: case; folds may leak."
        )
    return warnings


def _series(source: Location, case: Case, problems: list[str]) -> Series | None:
    frames: list[Placed] = []
    for key in case.images:
        found = attempt(problems, key, partial(_read_frames, source, key))
        frames += [Placed(key=key, frame=frame) for frame in found or ()]
    return None if problems else attempt(problems, f"the series of {case.images[0]}", lambda: stack(frames))


def _read_frames(source: Location, key: str) -> list[Frame]:
    return list(read_frames(read_bytes(source, key)))


ADAPTER: Adapter = Dicom()
