"""Values of the data section that cannot be meant: the whole of what is said."""

from collections.abc import Callable

import pytest

ACDC = "name: h\ndata:\n  source: /d\n  adapter: acdc\n  group_by: patient\n"
FOLDER = ACDC.replace("acdc", "image_folder").replace("patient", "case")

DATA = [
    pytest.param("size: 256", ["6: data.size: must be a list, got 256: write [256, 256]"], id="D5_side"),
    pytest.param(
        "size: 224x224", ["6: data.size: must be a list, got '224x224': write [224, 224]"], id="D5_sides_with_x"
    ),
    pytest.param(
        "size: (224, 224)",
        ["6: data.size: must be a list, got '(224, 224)': write [224, 224]"],
        id="D5_sides_in_parentheses",
    ),
    pytest.param(
        "size: [224 224]",
        [
            "6: data.size[0]: must be a whole number, got '224 224': commas are missing: 224, 224",
            "6: data.size: must have 2 entries, got 1",
        ],
        id="D5_sides_without_comma",
    ),
    pytest.param(
        "size: {width: 320, height: 224}",
        ["6: data.size: must be a list, got a section (width, height): write [224, 320]"],
        id="D5_sides_by_name",
    ),
    pytest.param("size: 250", ["6: data.size: must be a list, got 250: write [256, 256]"], id="D5_side_not_of_16"),
    pytest.param(
        "label_values: [1, 2, 3]",
        [
            (
                "6: data.label_values: label_values is for data.adapter: arrays or dicom or image_folder or nifti; "
                "acdc knows its own, remove it"
            )
        ],
        id="D7_label_values",
    ),
    pytest.param(
        "classes: [LV]",
        ["6: data.classes: data.adapter: acdc has 3 classes, 1 is named: [LV]; name 3, or remove it"],
        id="D6_one_class",
    ),
    pytest.param(
        'classes: ["", b, c]', ['6: data.classes: a class without a name; got ["", b, c]'], id="D8_class_without_name"
    ),
    pytest.param(
        "splits: {train: 0.8, val: 20%}",
        [
            (
                "6: data.splits.train: unknown key; the rest trains; set data.splits.validation_fraction, with scheme: "
                "holdout. Allowed in data.splits: scheme, k, seed, validation_fraction, lookalikes, file"
            ),
            "6: data.splits.val: unknown key; set data.splits.validation_fraction, with scheme: holdout.",
        ],
        id="D11_train_and_val",
    ),
    pytest.param(
        "splits: {validation_fraction: 0.3}",
        [
            (
                "6: data.splits.validation_fraction: for scheme: holdout or official; group_kfold does not look at it: "
                "write scheme: holdout, or remove it"
            )
        ],
        id="D6_fraction_nobody_reads",
    ),
    pytest.param(
        "splits: {scheme: holdout, validation_fraction: 20}",
        ["6: data.splits.validation_fraction: must be below 1, got 20: write 0.2"],
        id="holdout_fold",
    ),
    pytest.param(
        "splits: {scheme: loso}",
        [
            (
                "6: data.splits.scheme: must be one of group_kfold, stratified_group_kfold, holdout, official, "
                "leave_one_site_out, file, got 'loso'; did you mean leave_one_site_out?"
            )
        ],
        id="scheme_by_another_name",
    ),
    pytest.param(
        "splits: {scheme: leave_one_site}",
        [
            (
                "6: data.splits.scheme: must be one of group_kfold, stratified_group_kfold, holdout, official, "
                "leave_one_site_out, file, got 'leave_one_site'; did you mean leave_one_site_out?"
            )
        ],
        id="scheme_misspelt",
    ),
    pytest.param(
        "splits: {file: folds.json}",
        ["6: data.splits.file: only scheme: file reads it, not group_kfold; write scheme: file, or remove it"],
        id="file_without_scheme",
    ),
    pytest.param(
        "splits: {scheme: file}",
        ["6: data.splits.scheme: the file is missing; write file: PATH beside it"],
        id="scheme_without_file",
    ),
    pytest.param(
        "splits: {scheme: file, file: $F/folds.json}",
        ["6: data.splits.file: variables are not expanded; write the path itself; got '$F/folds.json'"],
        id="file_that_is_none",
    ),
    pytest.param(
        "window: [-125, 275]",
        ["6: data.window: auto does not read it; write normalize: ct_window, or remove it"],
        id="window_without_ct",
    ),
    pytest.param(
        "normalize: ct_window",
        [
            (
                "6: data.normalize: ct_window needs window, for example [-125, 275] for the abdomen (only "
                "data.adapter: synapse has a default)"
            )
        ],
        id="ct_without_window",
    ),
    pytest.param(
        "normalize: ct_window\n  window: [275, -125]",
        ["7: data.window: window=[275.0, -125.0]: the lowest value comes first"],
        id="window_reversed",
    ),
    pytest.param(
        "normalize: ct_window\n  window: -125, 275",
        ["7: data.window: must be a list, got '-125, 275': write [-125, 275]"],
        id="window_a_text",
    ),
    pytest.param(
        "normalize: ct_window\n  window: [400]", ["7: data.window: must have 2 entries, got 1"], id="window_short"
    ),
    pytest.param(
        "tiles: {size: 256}",
        ["6: data.tiles: tiles is for data.adapter: image_folder or monuseg; acdc knows its own, remove it"],
        id="tiles_of_another",
    ),
    pytest.param(
        "slice_axis: axial",
        ["6: data.slice_axis: slice_axis is for data.adapter: nifti; acdc knows its own, remove it"],
        id="axis_of_another",
    ),
    pytest.param(
        "labels: multi_class",
        ["6: data.labels: labels is for data.adapter: covid19; acdc knows its own, remove it"],
        id="labels_of_another",
    ),
    pytest.param(
        "arrays: {image: x}",
        ["6: data.arrays: arrays is for data.adapter: arrays; acdc knows its own, remove it"],
        id="arrays_of_another",
    ),
    pytest.param(
        "pairs: {images: x}",
        ["6: data.pairs: pairs is for data.adapter: dicom or image_folder or nifti; acdc knows its own, remove it"],
        id="pairs_of_another",
    ),
    pytest.param(
        "label_colors: [[1, 2, 3]]",
        ["6: data.label_colors: label_colors is for data.adapter: image_folder; acdc knows its own, remove it"],
        id="colours_of_another",
    ),
    pytest.param(
        "empty_slices: 30%",
        ["6: data.empty_slices: must be one of keep, drop, or a number, got '30%': write 0.3"],
        id="empty_slices_percent",
    ),
    pytest.param(
        "empty_slices: 0",
        ["6: data.empty_slices: must be one of keep, drop, or above 0, got 0; did you mean drop?"],
        id="empty_slices_zero",
    ),
    pytest.param(
        "empty_slices: true",
        ["6: data.empty_slices: must be one of keep, drop, or a number, got true; did you mean keep?"],
        id="empty_slices_all",
    ),
    pytest.param(
        "empty_slices: 1.5",
        ["6: data.empty_slices: must be one of keep, drop, or below 1, got 1.5"],
        id="empty_slices_too_many",
    ),
    pytest.param("context_slices: 9", ["6: data.context_slices: must be at most 8, got 9"], id="context_too_wide"),
    pytest.param(
        "cache: 4",
        ["6: data.cache: a size is a number above 0 with a unit: 512MB, 4GB, 16GiB; got 4"],
        id="cache_without_unit",
    ),
    pytest.param(
        "cache: 4 gb",
        ["6: data.cache: a size is a number above 0 with a unit: 512MB, 4GB, 16GiB; got '4 gb'; did you mean 4GB?"],
        id="cache_lower_case",
    ),
    pytest.param(
        "cache: 16G",
        ["6: data.cache: a size is a number above 0 with a unit: 512MB, 4GB, 16GiB; got '16G'; did you mean 16GB?"],
        id="cache_as_docker_writes",
    ),
    pytest.param(
        "accept_leaks: [{cases: [a, b]}]",
        ["6: data.accept_leaks[0].reason: is missing. Why it is no leak; stored with the splits and every model."],
        id="leak_without_reason",
    ),
    pytest.param(
        "accept_leaks: [{cases: [a, b], reason: fine}]",
        ["6: data.accept_leaks[0].reason: must have at least 10 characters, got 'fine'"],
        id="leak_with_a_short_reason",
    ),
    pytest.param(
        "accept_leaks: [[a, b]]",
        ["6: data.accept_leaks[0]: must be a section of `key: value` lines, got [a, b]; its keys: cases, reason"],
        id="leak_as_a_pair",
    ),
    pytest.param(
        "accept_leaks: [{cases: [a], reason: the same scanner}]",
        ["6: data.accept_leaks[0].cases: must have 2 entries, got 1"],
        id="leak_of_one_case",
    ),
    pytest.param(
        "accept_leaks: [{cases: [a, a], reason: the same scanner}]",
        ["6: data.accept_leaks[0].cases: the ids of two different cases; got [a, a]"],
        id="leak_with_itself",
    ),
    pytest.param(
        "accept_leaks: [{cases: [a, b], because: the same scanner}]",
        [
            "6: data.accept_leaks[0].reason: is missing. Why it is no leak; stored with the splits and every model.",
            "6: data.accept_leaks[0].because: unknown key. Allowed in data.accept_leaks[0]: cases, reason",
        ],
        id="leak_with_another_key",
    ),
    pytest.param(
        "on_bad_case: skip",
        ["6: data.on_bad_case: must be one of fail, quarantine, got 'skip'; did you mean quarantine?"],
        id="bad_case_skip",
    ),
    pytest.param(
        "pseudonymize: yes",
        ["6: data.pseudonymize: must be true or false, got 'yes': write true"],
        id="pseudonymize_yes",
    ),
]

FOLDERS = [
    pytest.param(
        "pairs: {images: x, masks: ./x}",
        ["6: data.pairs.masks: the folder of the images; masks in it need a mask_suffix, for example _mask"],
        id="D6_masks_among_images",
    ),
    pytest.param(
        "pairs: {images: ../x, masks: /x}",
        [
            "6: data.pairs.images: must be a folder in the source, without a '/' in front and without '..'; got '../x'",
            "6: data.pairs.masks: must be a folder in the source, without a '/' in front and without '..'; got '/x'",
        ],
        id="D6_folders_outside",
    ),
    pytest.param(
        "pairs: {mask_suffix: _mask.png}",
        ["6: data.pairs.mask_suffix: without the extension: write _mask; got '_mask.png'"],
        id="D6_suffix_with_extension",
    ),
    pytest.param(
        "classes: [a, b]\ntrain: {loss: dice_bce}",
        ["7: train.loss: dice_bce is for one foreground class, data.classes has 2; write dice_ce, or remove it"],
        id="D6_loss_of_named_classes",
    ),
    pytest.param(
        "tiles: 512",
        ["6: data.tiles: must be a section of `key: value` lines, got 512; its keys: size, overlap"],
        id="tiles_a_number",
    ),
    pytest.param(
        "tiles: {size: 256, overlap: 256}",
        ["6: data.tiles.overlap: 256 pixels of tiles of size=256; it must be less"],
        id="tiles_overlap",
    ),
    pytest.param(
        "tiles: {patch_overlap: 32}",
        [
            (
                "6: data.tiles.patch_overlap: unknown key; did you mean data.tiles.overlap? Allowed in data.tiles: "
                "size, overlap"
            )
        ],
        id="tiles_patch_overlap",
    ),
    pytest.param(
        "label_colors: [255, 0, 0]",
        ["6: data.label_colors: a list of colours, also for one class: write [[255, 0, 0]]; got [255, 0, 0]"],
        id="one_colour",
    ),
    pytest.param(
        'label_colors: ["#ff0000"]',
        ["6: data.label_colors[0]: must be a list, got '#ff0000': write [255, 0, 0]"],
        id="colour_as_in_html",
    ),
    pytest.param(
        "label_colors: [[0, 0, 0]]",
        ["6: data.label_colors: name the foreground classes only; background is always there, as 0; got [[0, 0, 0]]"],
        id="colour_black",
    ),
    pytest.param(
        "label_colors: [[256, 0, 0]]", ["6: data.label_colors[0][0]: must be at most 255, got 256"], id="colour_beyond"
    ),
    pytest.param(
        "label_colors: [[255, 0, 0]]\n  label_values: [1]",
        ["6: data.label_colors: masks have colours or values, not both; remove label_values"],
        id="colours_and_values",
    ),
    pytest.param("label_values: 255", ["6: data.label_values: must be a list, got 255: write [255]"], id="label_value"),
]


@pytest.mark.parametrize(("lines", "says"), DATA)
def test_a_wrong_value_of_the_data_is_told_with_its_remedy(
    lines: str, says: list[str], told: Callable[[str], list[str]]
) -> None:
    assert told(f"{ACDC}  {lines}\n") == says


@pytest.mark.parametrize(("lines", "says"), FOLDERS)
def test_a_wrong_value_of_a_folder_of_pairs_is_told(
    lines: str, says: list[str], told: Callable[[str], list[str]]
) -> None:
    assert told(f"{FOLDER}  {lines}\n") == says
