"""Axes and the two figures of columns."""

import math

import pytest

from udt_cluster.studies.columns import scatter
from udt_cluster.studies.drawing import Dot, Line, Words, shortened
from udt_cluster.studies.findings import CurvePoint, ScatterPoint
from udt_cluster.studies.plots import curve, scatter_plot
from udt_cluster.studies.scales import span, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.013, 0.031, [-0.01, 0, 0.01, 0.02, 0.03]),
        (0.81, 0.89, [0.82, 0.84, 0.86, 0.88]),
        (0, 130, [0, 25, 50, 75, 100, 125]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [0.0], [math.nan], [3.0], [1e-9, 2e-9], [-5.0, math.nan, 5.0]])
def test_every_range_has_room_and_ticks(values: list[float]) -> None:
    low, high = span(values)
    assert low < high
    assert all(low <= value <= high for value in values if not math.isnan(value))
    assert 1 <= len(ticks(low, high)) <= 8


def test_long_labels_lose_their_middle() -> None:
    assert shortened("short", 10) == "short"
    text = shortened("R34-UNet with CFA and SSA against R34-UNet", 20)
    assert len(text) == 20
    assert text.startswith("R34-UNet")
    assert text.endswith("R34-UNet")


def test_a_curve_has_a_line_for_each_data_set_and_series() -> None:
    points = [
        CurvePoint(dataset=dataset, series=series, arm=str(at), position=at, value=at / 10, low=low, high=at / 10 + 0.1)
        for dataset in ("GlaS", "ISIC")
        for series, low in (("held-out", 0.0), ("training", math.nan))
        for at in (1.0, 2.0, 10.0)
    ]
    drawn = curve(points, title="t", x_label="x", y_label="y", is_log=True)
    lines = [shape for shape in drawn.shapes if isinstance(shape, Line) and len(shape.points) == 3]
    assert [line.dashed for line in lines] == [False, True, False, True]
    assert lines[0].role == lines[1].role != lines[2].role
    xs = [x for x, _ in lines[0].points]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(math.log10(2)), "positions are logarithmic"
    labels = [shape.text for shape in drawn.shapes if isinstance(shape, Words)]
    assert {"GlaS held-out", "ISIC training", "1", "2", "10"} <= set(labels)


def test_labels_of_points_do_not_cover_each_other() -> None:
    points = [ScatterPoint(dataset="d", label=f"point {at}", x=1 + at / 1000, y=1) for at in range(3)]
    points.append(ScatterPoint(dataset="d", label="far", x=2, y=2))
    drawn = scatter_plot(scatter(points, name="n", title="t", x_label="x", y_label="y", seed=0))
    assert sum(isinstance(shape, Dot) for shape in drawn.shapes) == 4
    words = [shape for shape in drawn.shapes if isinstance(shape, Words) and shape.text.startswith(("point", "far"))]
    spots = {(round(word.y), word.anchor) for word in words}
    assert len(spots) == len(words) == 4
    assert any("Spearman" in shape.text for shape in drawn.shapes if isinstance(shape, Words))
