"""The `data` section of a job: where the images are, what they mean, and how samples are made of them."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from udt_cluster.config.adapters import BUILT_IN, OPTIONS, AdapterName, class_count
from udt_cluster.config.paths import inner_fault, path_fault, source_fault, suffix_fault
from udt_cluster.config.problems import flow
from udt_cluster.config.section import Name, Section
from udt_cluster.config.units import ByteSize

Fraction = Annotated[float, Field(gt=0, lt=1)]
Byte = Annotated[int, Field(ge=0, le=255)]
Side = Annotated[int, Field(ge=16, le=4096)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class PairsConfig(Section):
    """How images find their masks: `images/NAME.png` belongs to `masks/NAME<mask_suffix>.png`."""

    images: str = "images"
    """Folder of the images, relative to the source."""
    masks: str = "masks"
    """Folder of the masks, relative to the source. It may be the folder of the images when `mask_suffix` is set."""
    mask_suffix: str = ""
    """What a mask's name has behind the image's name, before the extension (`_mask`, `_segmentation`)."""

    @field_validator("images", "masks")
    @classmethod
    def _within_the_source(cls, folder: str) -> str:
        if folder and (fault := inner_fault(folder)):
            raise ValueError(fault)
        return folder

    @field_validator("mask_suffix")
    @classmethod
    def _only_a_suffix(cls, suffix: str) -> str:
        if fault := suffix_fault(suffix):
            raise ValueError(fault)
        return suffix


class ArraysConfig(Section):
    """`arrays`: names within each `.npz` or `.h5` file."""

    image: str = "image"
    """The image: (H, W), (D, H, W), or with channels last where there are at most 4 of them."""
    label: str = "label"
    """Its class indices, (H, W) or (D, H, W)."""


class TilesConfig(Section):
    """Cut large pictures into squares; each tile is a case, its picture the group."""

    size: Side = 512
    """Height and width of a tile in source pixels."""
    overlap: Annotated[int, Field(ge=0, le=2048)] = 0
    """Pixels that neighbouring tiles have in common; the last tile of a row or column lies flush with the edge."""

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap: {self.overlap} pixels of tiles of size={self.size}; it must be less")
        return self


class SplitsConfig(Section):
    """Which cases train, which validate. Splits are tables beside the store: changing them prepares nothing again."""

    scheme: Literal["group_kfold", "stratified_group_kfold", "holdout", "official", "leave_one_site_out", "file"] = (
        "group_kfold"
    )
    """`group_kfold`: k folds over whole groups. `stratified_group_kfold`: also balanced by the classes that cases have.
    `holdout`: one fold, with `validation_fraction` of the groups held out. `official`: the data set's own validation
    cases, or a holdout where it has none. `leave_one_site_out`: a fold for each site. `file`: from `file`. Cases that
    the data set itself calls `test` are in no fold."""
    k: Annotated[int, Field(ge=2, le=100)] = 5
    """Number of folds of `group_kfold` and `stratified_group_kfold`."""
    seed: Seed = 1234
    """Seed of the assignment of groups to folds."""
    validation_fraction: Fraction = 0.2
    """Share of the groups that `holdout`, or `official` without validation cases, holds out."""
    lookalikes: Literal["refuse", "together"] = "refuse"
    """Cases that show the same, or are slices of one volume, although nothing says that they belong together.
    `refuse`: a split that tears them apart stops the job, with every pair. `together`: folds keep them on one side; the
    data set's own test cases are never moved, so a pair across them is refused all the same."""
    file: str | None = None
    """Scheme `file`: nnU-Net's `splits_final.json`, or a splits file of ours; a path or `s3://`. A relative path in a
    job file is relative to that file."""

    @property
    def num_folds(self) -> int | None:
        """Number of folds; None where only the data can tell."""
        if self.scheme in ("group_kfold", "stratified_group_kfold"):
            return self.k
        return 1 if self.scheme in ("holdout", "official") else None

    @field_validator("file")
    @classmethod
    def _is_a_path(cls, file: str | None) -> str | None:
        if file is not None and (fault := path_fault(file)):
            raise ValueError(fault)
        return file

    @model_validator(mode="after")
    def _file_named(self) -> Self:
        if (self.scheme == "file") != (self.file is not None):
            if self.file is None:
                raise ValueError("scheme: the file is missing; write file: PATH beside it")
            raise ValueError(f"file: only scheme: file reads it, not {self.scheme}; write scheme: file, or remove it")
        return self


class AcceptedLeak(Section):
    """One pair of cases that may lie on two sides of a split although it looks like a leak."""

    cases: tuple[str, str]
    """The two case ids, as the message that refused them lists them."""
    reason: Annotated[str, Field(min_length=10)]
    """Why it is no leak; stored with the splits and every model."""

    @field_validator("cases")
    @classmethod
    def _two_cases(cls, cases: tuple[str, str]) -> tuple[str, str]:
        if cases[0] == cases[1] or not all(case.strip() for case in cases):
            raise ValueError("the ids of two different cases")
        return cases


class DataConfig(Section):
    """The data set, and how a sample is made of it."""

    source: str
    """Folder or `s3://` prefix of the original files. A relative path in a job file is relative to that file."""
    adapter: AdapterName
    """Which layout the source has."""
    name: Name | None = None
    """Name of the data set in storage. Default: the adapter's; the version, a hash of the content, tells sets apart."""
    group_by: Literal["patient", "case"] | None = None
    """What must not be split over two folds. May be left out only where the adapter knows the patients."""
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=255)] | None = None
    """Names of the foreground classes in the order of their label values (`[lesion]`). Default: the adapter's own."""
    label_values: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(min_length=1)] | None = None
    """The mask's value of each foreground class, in the order of `classes` (`[255]`).

    Default: 1, 2, ...; for a single class every value above 0.
    """
    label_colors: Annotated[tuple[tuple[Byte, Byte, Byte], ...], Field(min_length=1)] | None = None
    """`image_folder` with coloured masks: red, green, blue of each class in the order of `classes`; black is
    background (`[[255, 0, 0], [0, 255, 0]]`)."""
    labels: Literal["infection", "multi_class"] = "infection"
    """`covid19`: lesions as one class, or ground-glass opacities and consolidation apart."""
    pairs: PairsConfig = PairsConfig()
    """`image_folder`, `nifti`, `dicom`: where images and masks lie."""
    arrays: ArraysConfig = ArraysConfig()
    """`arrays`: names within each file."""
    tiles: TilesConfig | None = None
    """`monuseg`, `image_folder`: cut large pictures into tiles. Default: whole pictures."""
    slice_axis: Literal["axial", "coronal", "sagittal", "file"] = "file"
    """`nifti`: along which axis of the body slices are cut; `file`: the third axis of the file."""
    on_bad_case: Literal["fail", "quarantine"] = "fail"
    """`fail`: a case with something wrong stops the preparation. `quarantine`: it is left out, by name and reason."""
    pseudonymize: bool = False
    """Replace case ids and groups by a keyed hash; the key and the table that leads back stay outside the store."""
    accept_leaks: tuple[AcceptedLeak, ...] = ()
    """Pairs of cases that look like a leak and are none."""
    size: tuple[Side, Side] = (224, 224)
    """Height and width of a training sample in pixels; multiples of 16."""
    resize: Literal["stretch", "pad"] = "stretch"
    """`stretch`: the aspect ratio is not kept (as the paper). `pad`: zeros at the right and bottom up to the aspect
    ratio of `size`, then resized."""
    normalize: Literal["auto", "scale255", "zscore", "percentile", "ct_window", "stain"] = "auto"
    """`auto`: `scale255` for 8-bit sources, `zscore` for the others. Constants come from the data set's fingerprint.
    `ct_window`: `window` to 0..1. `stain`: each H&E image to the same mean and deviation in the l-alpha-beta space."""
    window: tuple[float, float] | None = None
    """`ct_window`: lowest and highest value, Hounsfield units for CT (`[-125, 275]`, the default of `synapse`)."""
    empty_slices: Literal["keep", "drop"] | Fraction = "keep"
    """Training slices without foreground: all, none, or this share of them. Scores always count every slice."""
    context_slices: Annotated[int, Field(ge=0, le=8)] = 0
    """Neighbouring slices on each side as additional channels; the first and the last slice repeat at the ends."""
    splits: SplitsConfig = SplitsConfig()
    """Folds."""
    cache: ByteSize = 4 * 10**9
    """Decoded samples that a node keeps for all its workers. Training cases that fit are shuffled fully, larger sets by
    a window of whole shards of half this size."""

    @property
    def dataset(self) -> str:
        """Name of the data set in storage."""
        return self.name or self.adapter.replace("_", "-")

    @property
    def foreground_count(self) -> int | None:
        """Number of foreground classes; None where only the data can tell."""
        return len(self.classes) if self.classes is not None else class_count(self.adapter, self.labels)

    @property
    def channels_per_image(self) -> int:
        """Slices that make up one input: itself and its neighbours."""
        return 2 * self.context_slices + 1

    @field_validator("size")
    @classmethod
    def _multiples_of_16(cls, size: tuple[int, int]) -> tuple[int, int]:
        if any(side % 16 for side in size):
            nearest = [max(16, round(side / 16) * 16) for side in size]
            raise ValueError(f"height and width must be multiples of 16; the nearest are {nearest}")
        return size

    @field_validator("label_colors", mode="before")
    @classmethod
    def _list_of_colours(cls, colours: object) -> object:
        if isinstance(colours, list) and len(colours) == 3 and all(isinstance(part, int) for part in colours):
            raise ValueError(f"a list of colours, also for one class: write {flow([colours])}")
        if not isinstance(colours, list):
            return colours
        return tuple(tuple(colour) if isinstance(colour, list) else colour for colour in colours)

    @field_validator("classes", "label_values", "label_colors")
    @classmethod
    def _distinct(cls, entries: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if entries is not None and len(set(entries)) != len(entries):
            raise ValueError("the same entry twice")
        if any(isinstance(entry, str) and not entry.strip() for entry in entries or ()):
            raise ValueError("a class without a name")
        if any(entry in ((0, 0, 0), "background", "Background") for entry in entries or ()):
            raise ValueError("name the foreground classes only; background is always there, as 0")
        return entries

    @model_validator(mode="after")
    def _adapter_listens(self) -> Self:
        """A setting that the adapter would not look at is a mistake."""
        for name, adapters in OPTIONS.items():
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if self.adapter in BUILT_IN and self.adapter not in adapters and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is for data.adapter: {' or '.join(sorted(adapters))}; {self.adapter} knows its own, "
                    "remove it"
                )
        return self

    @model_validator(mode="after")
    def _labels_named(self) -> Self:
        for name in ("label_values", "label_colors"):
            entries = getattr(self, name)
            if entries is not None and len(entries) != len(self.classes or ("foreground",)):
                count = f"{len(entries)} value{'s' if len(entries) > 1 else ''}"
                raise ValueError(
                    f"{name}: {count} for classes={flow(self.classes or ('foreground',))}; "
                    "every class has one value, in the same order"
                )
        if self.label_values is not None and self.label_colors is not None:
            raise ValueError("label_colors: masks have colours or values, not both; remove label_values")
        return self

    @model_validator(mode="after")
    def _window_named(self) -> Self:
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window={list(self.window)}: the lowest value comes first")
        if self.window is not None and self.normalize != "ct_window":
            raise ValueError(f"window: {self.normalize} does not read it; write normalize: ct_window, or remove it")
        if self.normalize == "ct_window" and self.window is None and self.adapter != "synapse":
            raise ValueError(
                "normalize: ct_window needs window, for example [-125, 275] for the abdomen "
                "(only data.adapter: synapse has a default)"
            )
        return self

    @field_validator("source")
    @classmethod
    def _source_named(cls, source: str) -> str:
        if fault := source_fault(source):
            raise ValueError(fault)
        return source
