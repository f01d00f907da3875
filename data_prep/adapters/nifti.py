"""`nifti`: volumes and their masks as NIfTI, by the `dataset.json` of MSD and nnU-Net, or by the names of the files."""

from data_prep.adapters import dataset_json
from data_prep.adapters.dataset_json import DatasetJson, read_dataset_json
from data_prep.adapters.volumes import folder_key, label_rule, named_files, pair_volumes, read_volumes
from data_prep.case import Adapter, Case, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.readers.nifti import NIFTI_SUFFIXES
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig, PairsConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location


class Nifti:
    """2-D slices of volumes along `data.slice_axis`. `data.pairs`, where it is set, goes before a `dataset.json`."""

    name = "nifti"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """`data.classes`, else those of dataset.json, else one class called foreground."""
        dataset = _dataset(config)
        if dataset is None or config.label_values is not None:
            return ("background", *(config.classes or ("foreground",)))
        if config.classes is not None and len(config.classes) != len(dataset.names):
            raise DataError(
                f"data.classes: dataset.json has {len(dataset.names)} classes, {list(dataset.names)}, and "
                f"{len(config.classes)} are named. Name all in this order, or none, or set data.label_values too."
            )
        return ("background", *(config.classes or dataset.names))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """List the volumes and their masks."""
        tree = SourceTree.of(source)
        self.class_names(config)
        dataset = _dataset(config)
        return _pairs(tree, config.pairs) if dataset is None else dataset_json.discover(tree, dataset)

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One volume, all its channels on one grid with the mask."""
        dataset = _dataset(config)
        if dataset is None:
            return read_volumes(source, case, label_rule(config), axis=config.slice_axis)
        rule = LabelRule(dataset.values) if config.label_values is None else label_rule(config)
        channels = dataset.channels if len(case.images) == 1 else 1
        return read_volumes(source, case, rule, axis=config.slice_axis, channels=channels)


def _dataset(config: DataConfig) -> DatasetJson | None:
    return read_dataset_json(Location.parse(config.source)) if config.pairs == PairsConfig() else None


def _pairs(tree: SourceTree, pairs: PairsConfig) -> Discovery:
    """`images/NAME.nii.gz`, or its channels NAME_0000.nii.gz and so on, with `masks/NAME<mask_suffix>.nii.gz`."""
    named = named_files(tree, pairs.masks, NIFTI_SUFFIXES).items()
    masks = {key: name.removesuffix(pairs.mask_suffix) for key, name in named if name.endswith(pairs.mask_suffix)}
    images = named_files(tree, pairs.images, NIFTI_SUFFIXES)
    if folder_key(pairs.images) == folder_key(pairs.masks):
        images = {key: name for key, name in images.items() if key not in masks}
    if not images or not masks:
        raise DataError(_nothing(tree, pairs, images=len(images), masks=len(masks)))
    found = pair_volumes(images, masks)
    if found.problems:
        raise DataError(f"{tree.location}: images and masks do not fit together", found.problems)
    cases = tuple(
        Case(id=name, group=name, split="unknown", images=keys, labels=(mask,))
        for name, (keys, mask) in found.complete.items()
    )
    return Discovery(cases=cases, patients_known=False, files=tree.select([*images, *masks]))


def _nothing(tree: SourceTree, pairs: PairsConfig, *, images: int, masks: int) -> str:
    return (
        f"{tree.location}: there is no {dataset_json.FILE_NAME}, and {images} images in data.pairs.images="
        f"{pairs.images!r} and {masks} masks in data.pairs.masks={pairs.masks!r}"
        + (f" with names ending in {pairs.mask_suffix!r}" if pairs.mask_suffix else "")
        + f". Both must hold files ({', '.join(NIFTI_SUFFIXES)}); the folders are relative to data.source."
        + (" Images and masks in one folder need data.pairs.mask_suffix." if pairs.images == pairs.masks else "")
    )


ADAPTER: Adapter = Nifti()
