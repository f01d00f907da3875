"""`image_folder`: pairs of pictures and masks, by name; classes by value, by palette index or by colour."""

import posixpath

from data_prep.adapters.pairs import match, read_pair
from data_prep.adapters.parts import in_order
from data_prep.adapters.tiles import cut_into_tiles
from data_prep.case import Adapter, Case, Discovery, RawCase
from data_prep.labels import ColorRule, LabelRule, MaskRule
from data_prep.readers import PICTURE_SUFFIXES
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig, PairsConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location


class ImageFolder:
    """`images/NAME.png` and `masks/NAME<mask_suffix>.png`, subfolders included; the first of them is the site."""

    name = "image_folder"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """`data.classes`, or one class called foreground."""
        return ("background", *(config.classes or ("foreground",)))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Pair the files of both folders."""
        tree = SourceTree.of(source)
        images, masks = _named_files(tree, config.pairs)
        if not images or not masks:
            raise DataError(_nothing(source, config.pairs, images=len(images), masks=len(masks)))
        pairs = match(images, masks)
        if pairs.problems:
            raise DataError(f"{source}: images and masks do not fit together", pairs.problems)
        cases = [
            Case(id=name, group=name, split="unknown", site=_site(name), images=(image,), labels=(mask,))
            for name, (image, mask) in pairs.complete.items()
        ]
        return Discovery(
            cases=in_order(cut_into_tiles(cases, source, config.tiles)),
            patients_known=False,
            files=tree.select([*images, *masks]),
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One picture, or a tile of one, and its mask."""
        return read_pair(source, case, _rule(config))


def _rule(config: DataConfig) -> MaskRule:
    if config.label_colors is not None:
        return ColorRule(config.label_colors)
    if config.label_values is not None:
        return LabelRule(config.label_values)
    classes = len(config.classes or ("foreground",))
    return LabelRule(None if classes == 1 else tuple(range(1, classes + 1)))


def _site(name: str) -> str:
    """The first subfolder: where people keep the pictures of each hospital or scanner apart."""
    return name.partition("/")[0] if "/" in name else ""


def _named_files(tree: SourceTree, pairs: PairsConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Images and masks, each file with the name that both have in common: its path below its folder."""
    suffix = pairs.mask_suffix
    image_folder, mask_folder = (posixpath.normpath(f"/{folder}").lstrip("/") for folder in (pairs.images, pairs.masks))
    images = {key: _below(image_folder, key) for key in tree.below(image_folder, PICTURE_SUFFIXES)}
    masks = {key: _below(mask_folder, key) for key in tree.below(mask_folder, PICTURE_SUFFIXES)}
    masks = {key: name.removesuffix(suffix) for key, name in masks.items() if name.endswith(suffix)}
    if image_folder == mask_folder:
        images = {key: name for key, name in images.items() if key not in masks}
    return images, masks


def _below(folder: str, key: str) -> str:
    return key.removeprefix(f"{folder}/" if folder else "").rpartition(".")[0]


def _nothing(source: Location, pairs: PairsConfig, *, images: int, masks: int) -> str:
    return (
        f"{source}: {images} images in data.pairs.images={pairs.images!r} and {masks} masks in data.pairs.masks="
        f"{pairs.masks!r}" + (f" with names ending in {pairs.mask_suffix!r}" if pairs.mask_suffix else "") + ". "
        f"Both must hold files ({', '.join(PICTURE_SUFFIXES)}); the folders are relative to data.source."
        + (" Images and masks in one folder need data.pairs.mask_suffix." if pairs.images == pairs.masks else "")
    )


ADAPTER: Adapter = ImageFolder()
