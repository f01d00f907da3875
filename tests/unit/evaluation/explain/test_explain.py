"""The whole: a folder with tables, pictures and a page, of networks of every kind."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from udt_cluster.data import DataStore
from udt_cluster.errors import DataError, UsageError
from udt_cluster.evaluation import SegmentationModel
from udt_cluster.evaluation.explain import PAGE_NAME, REPORT_NAME, ExplainSettings, explain
from udt_cluster.evaluation.explain.changes import Change
from udt_cluster.evaluation.explain.charts import draw_network, signed
from udt_cluster.evaluation.explain.effect import CaseEffect
from udt_cluster.evaluation.explain.look import choose_cases
from udt_cluster.evaluation.explain.page_text import reading

MODEL = Callable[..., SegmentationModel]
STORE = Callable[..., DataStore]
PNG = b"\x89PNG\r\n"
NO_PICTURES = ExplainSettings(pictures=0)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_in_the_folder(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store(channels=3, num_classes=3)
    one = model(made, skips=("dra_channel", "dra_spatial", "identity", "dat"))
    told: list[tuple[int, int]] = []
    report = explain(
        one,
        made,
        [[0, 1, 2, 3, 4, 5, 6]],
        output=tmp_path / "out",
        about={"model": "<glands>@candidate"},
        settings=ExplainSettings(pictures=2),
        notes=["seven of many"],
        progress=lambda done, total: told.append((done, total)),
    )
    folder = tmp_path / "out"
    assert json.loads((folder / REPORT_NAME).read_text()) == report
    assert told == [(done, 7) for done in range(1, 8)]
    pictures = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    assert all(data.startswith(PNG) for data in pictures.values())
    wanted = {"network.png", "drops.png", "similarity.png", "channels.png", "maps/cfa_block1.png"}
    assert wanted | {"maps/cfa_block2.png", "maps/dra_channel_level1.png"} < set(pictures)
    assert len([name for name in pictures if name.startswith("cases/zeroed_")]) == 2
    assert len([name for name in pictures if name.startswith("cases/attention_")]) == 2
    assert len(table(folder / "zeroed.csv")) == len(table(folder / "shuffled.csv")) == 7 * 5 * 3
    assert len(table(folder / "cka.csv")) == 7 * 4 * 2
    assert len(table(folder / "channels.csv")) == 64 + 64 + 128 + 256
    page = (folder / PAGE_NAME).read_text()
    assert page.count('src="data:image/png;base64,') == len(pictures)
    assert "&lt;glands&gt;@candidate" in page
    assert "<glands>" not in page
    assert "seven of many" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it needs nothing from anywhere"
    assert "<script" not in page


def test_tables_and_report_tell_the_same(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    cases = [0, 1, 2, 3, 4, 5, 6]
    report = explain(model(made, "unet"), made, [cases], output=tmp_path / "out", settings=NO_PICTURES)
    rows = [row for row in table(tmp_path / "out" / "shuffled.csv") if row["level"] == "2"]
    (found,) = [row for row in report["effects"] if (row["kind"], row["level"]) == ("shuffled", "2")]
    drops = [float(row["dice"]) - float(row["dice_changed"]) for row in rows]
    assert found["drop"] == pytest.approx(np.mean(drops))
    assert [float(row["drop"]) for row in rows] == pytest.approx(drops)
    assert found["drop_low"] <= found["drop"] <= found["drop_high"]
    similar = [
        float(row["cka"]) for row in table(tmp_path / "out" / "cka.csv") if (row["level"], row["side"]) == ("3", "skip")
    ]
    (row,) = [row for row in report["similarity"] if (row["level"], row["side"]) == (3, "skip")]
    assert row["cka"] == pytest.approx(np.mean(similar))
    assert not (tmp_path / "out" / "maps.npz").exists(), "a U-Net has no attention"


def test_cfa_shares_are_of_scales_and_sum_to_one(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store(slices=(1, 1))
    one = model(made, skips=("none", "dra_channel", "none", "dat"), scales=(2, 3, 4))
    explain(one, made, [[0, 1]], output=tmp_path / "out", settings=NO_PICTURES)
    rows = table(tmp_path / "out" / "cfa.csv")
    assert len(rows) == 2 * 9
    weights = np.load(tmp_path / "out" / "maps.npz")["member0_cfa_2"]
    assert weights.shape == (48, 48)
    wanted = weights[16:32, :16].sum(1).mean()
    (share,) = [float(r["share"]) for r in rows if (r["block"], r["of_level"], r["from_level"]) == ("2", "3", "2")]
    assert share == pytest.approx(wanted, rel=1e-4)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(6)


def test_members_of_an_ensemble_have_cases_of_their_own(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    ensemble = model(made, "unet", seeds=(0, 1))
    report = explain(ensemble, made, [[0, 1, 2], [3, 4]], output=tmp_path / "out", settings=NO_PICTURES)
    rows = table(tmp_path / "out" / "zeroed.csv")
    assert {(row["member"], row["case"]) for row in rows} == {
        *(("0", f"case-0{n}") for n in (0, 1, 2)),
        *(("1", f"case-0{n}") for n in (3, 4)),
    }
    assert (report["members"], report["cases"]) == (2, 5)
    assert any("ensemble of 2 networks" in warning for warning in report["warnings"])
    single = SegmentationModel(ensemble.spec, ensemble.networks[1:])
    alone = explain(single, made, [[3, 4]], output=tmp_path / "alone", settings=NO_PICTURES)
    mine = [row["drop"] for row in table(tmp_path / "alone" / "zeroed.csv")]
    assert [row["drop"] for row in rows if row["member"] == "1"] == mine
    assert alone["cases"] == 2


def test_a_network_without_skips_is_still_compared(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    report = explain(model(made, "unet", skips=("none", "zero", "none", "none")), made, [[0, 1]], output=tmp_path / "o")
    assert report["effects"] == []
    assert [row["side"] for row in report["similarity"]] == ["encoder"] * 4
    assert "no skip" in " ".join(report["warnings"])
    assert table(tmp_path / "o" / "zeroed.csv") == []
    assert (tmp_path / "o" / PAGE_NAME).is_file()


def test_one_case_cannot_be_shuffled(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    report = explain(model(made, "unet"), made, [[4]], output=tmp_path / "out", settings=NO_PICTURES)
    assert {row["kind"] for row in report["effects"]} == {"zeroed"}
    assert any("nothing was shuffled" in warning for warning in report["warnings"])
    assert any("1 groups are too few" in warning or "one group" in warning for warning in report["warnings"])


def test_a_volume_of_few_patients_says_so(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store(slices=(3, 4, 2), patients=("a", "a", "b"), resize="pad", native=(40, 64))
    one = model(made, "r34_unet")
    report = explain(one, made, [[0, 1, 2]], output=tmp_path / "out", settings=ExplainSettings(pictures=1))
    assert (report["cases"], report["groups"], report["donors_of_other_groups"]) == (3, 2, False)
    assert any("same patient" in warning for warning in report["warnings"])
    assert len(list((tmp_path / "out" / "cases").iterdir())) == 1


def test_scrambled_tokens_are_warned_of(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store(slices=(1, 1))
    one = model(made, head_merge="released", num_layers=1)
    report = explain(one, made, [[0, 1]], output=tmp_path / "out", settings=NO_PICTURES)
    assert any("head_merge is released" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("settings", "words"), [({"at": (0.0, 0.99)}, "0% of the height"), ({"class_name": "second"}, "second")]
)
def test_the_place_that_was_asked_for_is_drawn(
    model: MODEL, store: STORE, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    made = store(slices=(1, 1), num_classes=3)
    one = model(made, num_layers=1, skips=("dra_spatial", "none", "none", "dat"))
    chosen = ExplainSettings(pictures=1, **settings)  # type: ignore[arg-type]
    explain(one, made, [[0, 1]], output=tmp_path / "out", settings=chosen)
    rows = table(tmp_path / "out" / "attention.csv")
    assert {row["kind"] for row in rows} == {"ssa", "dra_spatial"}
    assert all(words in row["place"] for row in rows)
    if "at" in settings:
        assert {row["object_share"] for row in rows} == {"0.25"}, "one of 2 x 2 tokens"


def test_nothing_is_left_where_it_fails(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    with pytest.raises(DataError, match="no cases"):
        explain(model(made, "unet"), made, [[]], output=tmp_path / "out")
    with pytest.raises(UsageError, match="1 lists of cases for 2 members"):
        explain(model(made, "unet", seeds=(0, 1)), made, [[0]], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_meant_is_refused(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    one = model(made, "unet")
    with pytest.raises(UsageError, match="'liver' is not one of the model's: first"):
        explain(one, made, [[0]], output=tmp_path / "out", settings=ExplainSettings(class_name="liver"))
    with pytest.raises(UsageError, match="two shares from 0 to 1"):
        explain(one, made, [[0]], output=tmp_path / "out", settings=ExplainSettings(at=(12, 0.5)))
    with pytest.raises(UsageError, match="explain knows the skips of udtransnet, unet and r34_unet"):
        explain(SegmentationModel(one.spec, [torch.nn.Conv2d(1, 1, 1)]), made, [[0]], output=tmp_path / "out")


def test_a_store_of_another_size_is_refused(model: MODEL, store: STORE, tmp_path: Path) -> None:
    one = model(store(), "unet")
    other = store(size=(48, 48), version="v1")
    with pytest.raises(DataError, match=r"cannot be scored on") as refused:
        explain(one, other, [[0]], output=tmp_path / "out")
    assert "data.size: the model has (32, 32), the store (48, 48)" in str(refused.value)


def test_a_full_folder_is_not_written_to(model: MODEL, store: STORE, tmp_path: Path) -> None:
    made = store()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        explain(model(made, "unet"), made, [[0]], output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def row(low: float | None, high: float | None) -> dict[str, float | None]:
    return {"drop": ((low or 0) + (high or 0)) / 2, "drop_low": low, "drop_high": high}


@pytest.mark.parametrize(
    ("zeroed", "shuffled", "words"),
    [
        (row(0.1, 0.2), row(0.1, 0.3), "relies on what it says"),
        (row(0.1, 0.2), row(-0.1, 0.3), "something must be there"),
        (row(-0.1, 0.2), row(0.1, 0.3), "leads astray"),
        (row(-0.2, -0.1), row(-0.1, 0.1), "better"),
        (row(-0.1, 0.1), row(-0.1, 0.1), "no effect shown"),
        (row(0.001, 0.003), row(-0.003, -0.001), "no effect shown"),
        (row(None, None), row(0.1, 0.3), "too few groups"),
        (row(0.1, 0.2), None, "too few groups"),
    ],
)
def test_a_conclusion_needs_an_interval_that_excludes_zero(zeroed, shuffled, words: str) -> None:
    assert words in reading(zeroed, shuffled)


def test_drawn_cases_are_the_worst_the_best_and_between() -> None:
    change = Change("zeroed", (1,))
    effects = [
        CaseEffect(member=0, case=str(i), group=str(i), change=change, intact={1: d}, changed={1: 0.0})
        for i, d in enumerate([0.5, 0.9, float("nan"), 0.1, 0.7])
    ]
    assert choose_cases(effects, 3) == {"3": "worst", "4": "between", "1": "best"}
    assert choose_cases(effects, 1) == {"4": "median"}
    assert choose_cases(effects, 9) == {"3": "worst", "0": "between", "4": "between", "1": "best"}
    assert choose_cases(effects, 0) == choose_cases([], 3) == {}


def test_signs_are_real_minus_signs() -> None:
    assert (signed(-0.25), signed(0.5), signed(float("nan"))) == ("\u22120.250", "+0.500", "undefined")
    assert signed(-0.0001) == signed(0.0) == "0.000"


def test_the_network_is_drawn_without_any_skip() -> None:
    assert draw_network([], ("none", "zero", "none", "none")).startswith(PNG)
