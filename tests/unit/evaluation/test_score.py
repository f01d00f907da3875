"""Scores of a store's cases: what is counted, what is averaged, what is written."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from udt_cluster.config.job import EvaluateConfig
from udt_cluster.errors import DataError, UsageError
from udt_cluster.evaluation import EMPTY_MASK_POLICY, case_metrics, score, summarize
from udt_cluster.evaluation.summary import CaseScore

CONFIG = EvaluateConfig(worst=0)


def discs(shape, num_classes, seed):
    """A label (D, H, W) with a disc of every class, and the grey image (D, 1, H, W) that shows it."""
    random = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    rows, columns = np.indices(shape[1:])
    for index in range(1, num_classes):
        row, column = random.integers(10, shape[1] - 10), random.integers(10, shape[2] - 10)
        label[:, (rows - row) ** 2 + (columns - column) ** 2 < 60] = index
    return label, (label * (255 // (num_classes - 1)))[:, None]


@pytest.fixture
def images(memory_store):
    """Three images at the network's own size, so that a network that reads the grey value is perfect."""
    pairs = [discs((1, 32, 48), 2, seed) for seed in range(3)]
    return memory_store([image for _, image in pairs], [label for label, _ in pairs])


@pytest.fixture
def volumes(memory_store):
    """Two volumes of another size than the network's, with spacing."""
    pairs = [discs((3, 50, 60), 4, seed) for seed in (3, 4)]
    return memory_store(
        [image for _, image in pairs], [label for label, _ in pairs], num_classes=4, spacing=(8.0, 1.5, 1.25)
    )


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_perfect_model(reading_model, images, tmp_path):
    calls = []
    summary = score(
        reading_model(), images, [0, 2], config=CONFIG, output=tmp_path / "out", progress=lambda *a: calls.append(a)
    )
    assert calls == [(1, 2), (2, 2)]
    assert summary.mean == {name: pytest.approx(1.0 if "hd95" not in name else 0.0) for name in summary.mean}
    assert summary.unit == "px"
    assert summary.beats_baseline
    assert summary.warnings == ()
    assert summary.headline.startswith("Dice 1.00 (2 cases; baseline 0.")
    assert summary.headline.endswith("), HD95 0.0 px")
    rows = rows_of(tmp_path / "out" / "per_case.csv")
    assert [(row["case"], row["group"], row["class"], row["class_name"]) for row in rows] == [
        ("case0", "patient0", "1", "right ventricle"),
        ("case2", "patient2", "1", "right ventricle"),
    ]
    assert int(rows[0]["reference_voxels"]) == int(rows[0]["prediction_voxels"]) == images.native[0].sum()


def test_a_volume_is_one_case_in_millimetres(reading_model, volumes, tmp_path):
    model = reading_model(4)
    summary = score(model, volumes, [1, 0], config=CONFIG, output=tmp_path / "out")
    assert [case.case for case in summary.cases] == ["case1", "case0"]
    rows = {(row["case"], int(row["class"])): row for row in rows_of(tmp_path / "out" / "per_case.csv")}
    assert len(rows) == 6
    for case in (0, 1):
        reference = volumes.native[case]
        samples = volumes.images[3 * case : 3 * case + 3]
        prediction = model.predict_samples(samples, native_size=(50, 60))
        expected = case_metrics(prediction, reference, num_classes=4, spacing=(8.0, 1.5, 1.25))
        for index, scores in expected.items():
            row = rows[f"case{case}", index]
            assert row["unit"] == "mm"
            assert {name: float(row[name]) for name in scores} == pytest.approx(scores)
            assert int(row["reference_voxels"]) == (reference == index).sum()
    dice = [[float(rows[f"case{case}", index]["dice"]) for index in (1, 2, 3)] for case in (0, 1)]
    assert 0.7 < summary.mean["dice"] < 1
    assert summary.mean["dice"] == pytest.approx(np.mean(dice))
    assert summary.mean["dice_class_2"] == pytest.approx(np.mean(dice, 0)[1])
    assert summary.median["dice_class_3"] == pytest.approx(np.median(dice, 0)[2])
    assert summary.std["dice"] == pytest.approx(np.std(np.mean(dice, 1), ddof=1))


def test_slices_are_put_in_their_order(reading_model, volumes, tmp_path):
    expected = score(reading_model(4), volumes, [0], config=CONFIG, output=tmp_path / "a").mean
    volumes.native[0] = volumes.native[0].copy()
    volumes.native[0][1] = 0  # make the slices differ
    volumes.images[1] = 0
    straight = score(reading_model(4), volumes, [0], config=CONFIG, output=tmp_path / "b").mean
    volumes.images[[0, 1, 2]] = volumes.images[[1, 2, 0]]
    volumes.sample_slice[[0, 1, 2]] = [1, 2, 0]
    assert score(reading_model(4), volumes, [0], config=CONFIG, output=tmp_path / "c").mean == straight
    assert straight["dice"] == pytest.approx(expected["dice"])
    volumes.sample_slice[0] = 2
    with pytest.raises(DataError, match="case0 has 3 samples for its 3 slices"):
        score(reading_model(4), volumes, [0], config=CONFIG, output=tmp_path / "d")


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_scores_are_of_what_predict_returns_for_the_original_image(random_model, memory_store, tmp_path, resize):
    raw = np.random.default_rng(0).integers(0, 256, (1, 3, 71, 53), dtype=np.uint8)
    model = random_model(channels=3, resize=resize)
    mask = model.predict(raw[0].transpose(1, 2, 0))
    assert 0.05 < mask.mean() < 0.95
    store = memory_store([raw], [mask[None]], resize=resize)
    summary = score(model, store, [0], config=CONFIG, output=tmp_path / "out")
    assert summary.mean["dice"] == 1.0


def test_empty_masks_are_counted_and_left_out(reading_model, memory_store, tmp_path):
    label, image = discs((1, 32, 48), 2, 0)
    nothing, black = np.zeros_like(label), np.zeros_like(image)
    store = memory_store([image, black, black, image], [label, label, nothing, nothing])
    summary = score(reading_model(), store, range(4), config=CONFIG, output=tmp_path / "out")
    assert summary.empty == {1: {"both": 1, "prediction": 1, "reference": 1}}
    assert summary.undefined["dice"] == 1
    assert summary.undefined["hd95"] == 3
    assert summary.mean["dice"] == pytest.approx(1 / 3)
    assert summary.mean["hd95"] == 0
    assert "predicted nowhere in 1 of the 2 cases that have it" in " ".join(summary.warnings)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written == summary.to_dict()
    assert written["empty_mask_policy"] == EMPTY_MASK_POLICY
    assert written["empty_masks"] == {"right ventricle": {"both": 1, "prediction": 1, "reference": 1}}
    cells = [(row["dice"], row["hd95"]) for row in rows_of(tmp_path / "out" / "per_case.csv")]
    assert cells == [("1", "0"), ("0", ""), ("", ""), ("0", "")]


def test_nothing_defined_is_null_and_does_not_beat_the_baseline(reading_model, memory_store, tmp_path):
    label, image = discs((1, 32, 48), 2, 0)
    store = memory_store([image * 0], [label * 0])
    summary = score(reading_model(), store, [0], config=CONFIG, output=tmp_path / "out")
    assert not summary.beats_baseline
    assert summary.headline == "Dice undefined (1 case; baseline undefined)"
    assert summary.to_dict()["mean"]["dice"] is None
    assert summary.to_dict()["std"]["dice"] is None


def test_a_model_below_all_foreground_is_warned_of(reading_model, memory_store, tmp_path):
    label = np.ones((1, 32, 48), np.uint8)
    label[0, :4] = 0
    image = np.zeros((1, 1, 32, 48), np.uint8)
    image[0, 0, :20] = 255
    summary = score(reading_model(), memory_store([image], [label]), [0], config=CONFIG, output=tmp_path / "out")
    part = 28 / 32
    assert summary.baseline == pytest.approx({"dice": 2 * part / (1 + part), "dice_class_1": 2 * part / (1 + part)})
    assert not summary.beats_baseline
    assert "does not beat the best constant prediction" in summary.warnings[0]


def case_score(number, dice, *, unit="px", reference=(10, 10)):
    return CaseScore(
        case=f"c{number}", group="g", unit=unit, voxels=100,
        scores={index: {"dice": value, "hd95": 2.0} for index, value in enumerate(dice, start=1)},
        reference_voxels=dict(enumerate(reference, start=1)), prediction_voxels={1: 5, 2: 5},
    )  # fmt: skip


def test_the_baseline_is_per_class_over_the_cases_that_have_it():
    cases = [case_score(1, (0.9, 0.1), reference=(10, 50)), case_score(2, (0.9, math.nan), reference=(30, 0))]
    summary = summarize(cases, class_names=("background", "a", "b"), metrics=("dice",))
    assert summary.baseline["dice_class_1"] == pytest.approx((20 / 110 + 60 / 130) / 2)
    assert summary.baseline["dice_class_2"] == pytest.approx(100 / 150)
    assert summary.baseline["dice"] == pytest.approx(((20 / 110 + 100 / 150) / 2 + 60 / 130) / 2)
    assert summary.mean["dice"] == pytest.approx((0.5 + 0.9) / 2)
    assert summary.beats_baseline
    assert summary.warnings == ("no better than a constant prediction for: b (0.10 against 0.67)",)


def test_pixels_and_millimetres_are_never_averaged():
    cases = [case_score(1, (0.9, 0.9)), case_score(2, (0.9, 0.9), unit="mm")]
    summary = summarize(cases, class_names=("background", "a", "b"), metrics=("dice", "hd95"))
    assert summary.unit == "mixed"
    assert math.isnan(summary.mean["hd95"])
    assert math.isnan(summary.mean["hd95_class_1"])
    assert summary.undefined["hd95"] == 0
    assert summary.mean["dice"] == pytest.approx(0.9)
    assert "known for 1 of 2 cases" in summary.warnings[0]
    assert "HD95" not in summary.headline


def test_only_the_chosen_metrics_and_dice_always(reading_model, images, tmp_path):
    config = EvaluateConfig(metrics=("iou",), worst=0)
    summary = score(reading_model(), images, [0], config=config, output=tmp_path / "out")
    assert summary.metrics == ("dice", "iou")
    assert set(summary.mean) == {"dice", "dice_class_1", "iou", "iou_class_1"}
    assert "hd95" not in rows_of(tmp_path / "out" / "per_case.csv")[0]


def test_overlays_of_worst_and_best_are_distinct_pictures(random_model, memory_store, tmp_path):
    model = random_model()
    random = np.random.default_rng(1)
    raw = [random.integers(0, 256, (1, 1, 40, 44), dtype=np.uint8) for _ in range(7)]
    wrong = [0.6, 0.0, 0.3, 0.1, 0.5, 0.2, 0.4]  # share of pixels with the other class
    labels = [
        np.where(random.random((1, 40, 44)) < share, 1 - model.predict(image[0, 0]), model.predict(image[0, 0]))
        for image, share in zip(raw, wrong, strict=True)
    ]
    store = memory_store(raw, [label.astype(np.uint8) for label in labels])
    score(model, store, range(7), config=EvaluateConfig(worst=2, metrics=("dice",)), output=tmp_path / "out")
    pictures = sorted((tmp_path / "out" / "overlays").iterdir())
    assert [path.name for path in pictures] == [
        "best_1_case1.png", "best_2_case3.png", "worst_1_case0.png", "worst_2_case4.png"
    ]  # fmt: skip
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width == 1496
            assert np.unique(np.asarray(picture.convert("L"))).size > 50


def test_few_cases_are_shown_once(reading_model, images, tmp_path):
    score(reading_model(), images, [0, 1, 2], config=EvaluateConfig(worst=5), output=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert [name[:7] for name in names] == ["best_1_", "worst_1", "worst_2"]
    assert len({name.split("_")[-1] for name in names}) == 3


def test_a_failure_half_way_leaves_nothing(reading_model, images, tmp_path):
    images.native[1] = np.full((1, 32, 48), 9, np.uint8)
    with pytest.raises(DataError, match="reference has the values 9"):
        score(reading_model(), images, [0, 1], config=CONFIG, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_in_use_is_refused_before_any_work(reading_model, images, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        score(reading_model(), images, [0], config=CONFIG, output=tmp_path)
    assert images.reads == 0
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_a_store_of_another_kind_is_refused_with_every_difference(random_model, images, tmp_path):
    model = random_model(channels=3, num_classes=4, resize="pad", dtype="float32", size=(32, 32))
    with pytest.raises(DataError) as caught:
        score(model, images, [0], config=CONFIG, output=tmp_path / "out")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "class_names", "channels", "dtype", "data.size", "data.resize"
    ]  # fmt: skip


def test_no_cases_is_an_error(reading_model, images, tmp_path):
    with pytest.raises(DataError, match="no cases to score"):
        score(reading_model(), images, [], config=CONFIG, output=tmp_path / "out")
