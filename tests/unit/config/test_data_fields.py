"""The data section where it is right, and what the messages know of it."""

from pathlib import Path

import pytest

from udt_cluster.config.adapters import BUILT_IN, OPTIONS, class_count, known_adapters
from udt_cluster.config.data import DataConfig, SplitsConfig
from udt_cluster.config.fields import all_fields, entry_fields, field_at
from udt_cluster.config.job import Job
from udt_cluster.config.load import check_job, load_job
from udt_cluster.config.suggest import nearest, suggestions
from udt_cluster.config.synonyms import FIELDS, REMARKS, VALUES

FOLDER = "name: h\ndata:\n  source: /d\n  adapter: image_folder\n  group_by: case\n  "


def loaded(path: Path, line: str, adapter: str = "image_folder") -> DataConfig:
    path.write_text(FOLDER.replace("image_folder", adapter) + line + "\n")
    return load_job(path).data


def test_right_values_of_every_new_field_are_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    assert loaded(path, "{}".strip("{}")).tiles is None
    tiles = loaded(path, "tiles: {size: 256, overlap: 255}").tiles
    assert tiles is not None
    assert (tiles.size, tiles.overlap) == (256, 255)
    colours = loaded(path, "classes: [a, b]\n  label_colors: [[255, 0, 0], [0, 255, 0]]").label_colors
    assert colours == ((255, 0, 0), (0, 255, 0))
    assert loaded(path, "labels: multi_class", "covid19").labels == "multi_class"
    assert loaded(path, "arrays: {image: ct, label: seg}", "arrays").arrays.image == "ct"
    assert loaded(path, "slice_axis: coronal", "nifti").slice_axis == "coronal"
    (leak,) = loaded(path, "accept_leaks: [{cases: [a, b], reason: the same scanner}]").accept_leaks
    assert (leak.cases, leak.reason) == (("a", "b"), "the same scanner")


def test_a_window_is_read_and_synapse_has_one(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    assert loaded(path, "normalize: ct_window\n  window: [-125, 275]", "nifti").window == (-125, 275)
    assert loaded(path, "normalize: ct_window", "synapse").window is None


@pytest.mark.parametrize(("text", "value"), [("keep", "keep"), ("drop", "drop"), ("0.3", 0.3)])
def test_empty_slices_are_all_none_or_a_share(text: str, value: object, tmp_path: Path) -> None:
    assert loaded(tmp_path / "job.yaml", f"empty_slices: {text}").empty_slices == value


@pytest.mark.parametrize(
    ("text", "value"), [("24GB", 24 * 10**9), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("1000000", 10**6)]
)
def test_a_cache_has_a_unit_and_comes_back(text: str, value: int, tmp_path: Path) -> None:
    assert loaded(tmp_path / "job.yaml", f"cache: {text}").cache == value
    job = load_job(tmp_path / "job.yaml")
    assert Job.from_json(job.to_json()) == job


@pytest.mark.parametrize("slices", [0, 1, 8])
def test_context_slices_multiply_the_channels(slices: int) -> None:
    config = DataConfig(source="/d", adapter="acdc", context_slices=slices)
    assert config.channels_per_image == 2 * slices + 1


@pytest.mark.parametrize(
    ("scheme", "folds"),
    [
        ("group_kfold", 7),
        ("stratified_group_kfold", 7),
        ("holdout", 1),
        ("official", 1),
        ("leave_one_site_out", None),
    ],
)
def test_the_number_of_folds_follows_from_the_scheme(scheme: str, folds: int | None, tmp_path: Path) -> None:
    assert SplitsConfig.model_validate({"scheme": scheme, "k": 7}).num_folds == folds
    splits = loaded(tmp_path / "job.yaml", f"splits: {{scheme: {scheme}, k: 7}}").splits
    assert splits.num_folds == folds


def test_a_fold_that_only_the_data_can_tell_is_left_to_it(tmp_path: Path) -> None:
    loaded(tmp_path / "job.yaml", "splits: {scheme: leave_one_site_out}\nrepeat: {folds: [11]}")
    assert load_job(tmp_path / "job.yaml").repeat.folds == (11,)


@pytest.mark.parametrize(
    ("adapter", "labels", "count"),
    [
        ("acdc", "infection", 3),
        ("glas", "infection", 1),
        ("monuseg", "infection", 1),
        ("isic2018", "infection", 1),
        ("synapse", "infection", 8),
        ("covid19", "infection", 1),
        ("covid19", "multi_class", 2),
        ("nifti", "infection", None),
        ("of-somebody-else", "infection", None),
    ],
)
def test_a_data_set_has_its_number_of_classes(adapter: str, labels: str, count: int | None) -> None:
    assert class_count(adapter, labels) == count


def test_dice_bce_is_taken_where_one_class_is_certain_or_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for adapter in ("glas", "covid19", "nifti"):
        loaded(path, "size: [64, 64]\ntrain: {loss: dice_bce}", adapter)
        assert load_job(path).train.loss == "dice_bce"


def test_every_option_is_a_field_and_names_built_in_adapters() -> None:
    assert {f"data.{option}" for option in OPTIONS} <= all_fields().keys()
    assert set().union(*OPTIONS.values()) <= set(BUILT_IN) <= set(known_adapters())


def test_synonyms_lead_to_fields_and_to_values_that_are_allowed() -> None:
    assert {path for paths in FIELDS.values() for path in paths} <= all_fields().keys()
    leaves = {field.leaf for field in all_fields().values()}
    assert [key for key in REMARKS if key in leaves] == []
    for path, words in VALUES.items():
        assert path in all_fields()
        choices = field_choices(path)
        assert set(words.values()) <= choices, path
        assert not words.keys() & choices, path


def field_choices(path: str) -> set[str]:
    """What the refusal of a wrong value lists."""
    section, _, leaf = path.rpartition(".")
    wrong: object = ["?"] if path in ("evaluate.metrics", "model.skips", "model.attention") else "?"
    job: dict[str, dict[str, object]] = {"data": {"source": "/d", "adapter": "acdc"}}
    node = job.setdefault(section.split(".")[0], {})
    for part in section.split(".")[1:]:
        inner: dict[str, object] = {}
        node[part] = inner
        node = inner
    node[leaf] = wrong
    with pytest.raises(ValueError, match="Input should be") as raised:
        Job.model_validate({"name": "h", **job})
    listed = str(raised.value).partition("Input should be ")[2].partition(" [type")[0]
    return set(listed.replace("'", "").replace(" or ", ", ").split(", "))


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("data", "hu_window", "data.window"),
        ("data", "patch_overlap", "data.tiles.overlap"),
        ("data.tiles", "stride", "data.tiles.overlap"),
        ("data", "sites", "data.splits.scheme"),
        ("data.splits", "stratify", "data.splits.scheme"),
        ("data", "quarantine", "data.on_bad_case"),
        ("data", "anonymize", "data.pseudonymize"),
        ("data", "context", "data.context_slices"),
        ("data", "neighbours", "data.context_slices"),
        ("data.splits", "val_fraction", "data.splits.validation_fraction"),
        ("train", "val_split", "data.splits.validation_fraction"),
        ("data", "splits_file", "data.splits.file"),
        ("data", "colors", "data.label_colors"),
        ("", "axis", "data.slice_axis"),
    ],
)
def test_a_new_field_is_found_by_the_names_that_others_use(section: str, key: str, meant: str) -> None:
    assert suggestions(section, key)[0] == meant


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ("synaps", ("synapse",)),
        ("GlaS", ("glas",)),
        ("image-folder", ("image_folder",)),
        ("monuesg", ("monuseg",)),
        ("covid", ("covid19",)),
        ("nii.gz", ("nifti",)),
        ("kitti", ()),
        ("x", ()),
        (7, ()),
    ],
)
def test_only_a_near_adapter_is_proposed(found: object, meant: tuple[str, ...]) -> None:
    assert nearest(found, known_adapters(), "data.adapter") == meant


def test_the_value_that_was_meant_is_there_for_programs_too(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FOLDER + "resize: padd\n  sise: [64, 64]\n")
    found = check_job(path)
    assert isinstance(found, tuple)
    assert [problem.suggested for problem in found] == [("pad",), ("data.size",)]


def test_another_wrong_field_makes_no_finding_of_what_stands_in_for_the_adapter(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: h\ndata: {source: /d, adapter: synaps, classes: [a, b], normalize: ct_window}\ntrain: {loss: dice_bce}\n"
    )
    found = check_job(path)
    assert isinstance(found, tuple)
    assert [problem.field for problem in found] == ["data.adapter"]


def test_sections_that_may_be_null_and_lists_of_sections_are_known() -> None:
    assert {"data.tiles", "data.tiles.size", "data.tiles.overlap"} <= all_fields().keys()
    assert {"data.accept_leaks.cases", "data.accept_leaks.reason", "tune.search.choice"} <= entry_fields().keys()
    assert field_at("data.accept_leaks[3].reason") == entry_fields()["data.accept_leaks.reason"]


def test_an_override_reaches_into_a_section_that_may_be_null(tmp_path: Path) -> None:
    loaded(tmp_path / "job.yaml", "size: [64, 64]")
    tiles = load_job(tmp_path / "job.yaml", ["data.tiles.size=128"]).data.tiles
    assert tiles is not None
    assert tiles.size == 128
