"""Scores of a study: read from the tables of runs, whole or not at all."""

import csv
import io
import math
from pathlib import Path

import pytest

from tests.study_tables import generated, table
from udt_cluster.errors import DataError
from udt_cluster.storage import Location
from udt_cluster.studies import Arm, Design, RunKey, ScoreFile, ScoreTable, find_missing, read_scores

RUN = RunKey(dataset="GlaS", arm="U-Net", fold=1, seed=3)
TEXT = """case,group,class,class_name,dice,iou,hd95,prediction_voxels,reference_voxels,unit
a 1,a,1,gland,0.9,0.8,3.5,10,12,mm
a 1,a,2,lumen,,,,0,0,mm
b 1,b,1,gland,0.5,0.4,,0,4,mm
"""


def design(**options: object) -> Design:
    arms = (Arm(name="UDTransNet"), Arm(name="U-Net"))
    return Design(name="s", question="Is it?", arms=arms, reference="U-Net", **options)  # type: ignore[arg-type]


def test_a_table_of_a_run_is_read_with_its_undefined_scores() -> None:
    first, second, third = read_scores(TEXT, run=RUN, where="per_case.csv")
    assert first.run == RUN
    assert (first.case, first.group, first.class_index, first.class_name, first.unit) == ("a 1", "a", 1, "gland", "mm")
    assert first.values == {"dice": 0.9, "iou": 0.8, "hd95": 3.5}
    assert math.isnan(second.values["dice"])
    assert math.isnan(third.values["hd95"])


def test_columns_that_are_not_known_are_metrics() -> None:
    text = TEXT.replace("hd95", "false_negative_rate")
    assert "false_negative_rate" in read_scores(text, run=RUN, where="x")[0].values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("case,dice\na,1\n", "group, class, class_name"),
        (TEXT.replace("0.9", "good"), "per_case.csv, line 2"),
        ("", "lacks the columns"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_scores(text, run=RUN, where="per_case.csv")


def test_tables_come_from_storage(tmp_path: Path) -> None:
    path = tmp_path / "per_case.csv"
    path.write_text(TEXT)
    found = ScoreTable.from_files([ScoreFile(run=RUN, location=Location.parse(path))])
    assert len(found.rows) == 3
    assert found.runs == {RUN}
    with pytest.raises(FileNotFoundError):
        ScoreTable.from_files([ScoreFile(run=RUN, location=Location.parse(tmp_path / "none.csv"))])


def test_it_becomes_one_csv_and_comes_back() -> None:
    rows = [*read_scores(TEXT, run=RUN, where="x"), *generated({"UDTransNet": 0.0}, groups=3)]
    text = ScoreTable(tuple(rows)).to_csv()
    assert next(csv.reader(io.StringIO(text)))[:4] == ["dataset", "arm", "fold", "seed"]
    assert ScoreTable.from_csv(text).to_csv() == text


def test_a_case_that_was_scored_twice_is_refused_by_name() -> None:
    rows = generated({"U-Net": 0.0}, groups=4, folds=2)
    twice = RunKey(dataset="GlaS", arm="U-Net", fold=1, seed=0)
    text = "case,group,class,class_name,dice\ncase 000-0,patient 000,1,gland,0.5\n"
    with pytest.raises(DataError, match="case 000-0 was scored twice"):
        ScoreTable((*rows, *read_scores(text, run=twice, where="x")))


def test_a_case_in_two_groups_is_refused_by_name() -> None:
    rows = generated({"U-Net": 0.0}, groups=4)
    text = "case,group,class,class_name,dice\ncase 000-0,somebody else,1,gland,0.5\n"
    other = RunKey(dataset="GlaS", arm="UDTransNet", fold=0, seed=0)
    with pytest.raises(DataError, match="patient 000, somebody else"):
        ScoreTable((*rows, *read_scores(text, run=other, where="x")))


def test_a_whole_study_lacks_nothing() -> None:
    missing = find_missing(table({"UDTransNet": 0.0, "U-Net": 0.0}, seeds=2), design(folds=5, seeds=(0, 1)))
    assert missing.is_complete
    assert (missing.runs_found, missing.notes) == (20, ())


def test_missing_trainings_and_cases_are_named() -> None:
    rows = generated({"UDTransNet": 0.0, "U-Net": 0.0}, groups=10, folds=5, seeds=2)
    left = [row for row in rows if (row.arm, row.fold, row.seed) != ("U-Net", 2, 1)]
    left = [row for row in left if (row.arm, row.case) != ("UDTransNet", "case 003-0")]
    missing = find_missing(ScoreTable(tuple(left)), design())
    assert (missing.runs_found, missing.runs_expected) == (19, 20)
    notes = "\n".join(missing.notes)
    assert "GlaS: U-Net lacks fold 2 seed 1 (1 of 10 trainings)" in notes
    assert "GlaS: UDTransNet, fold 3 seed 0 lacks 1 case: case 003-0" in notes


def test_expected_data_sets_arms_and_metrics_without_scores_are_named() -> None:
    rows = generated({"UDTransNet": 0.0, "stranger": 0.0}, groups=6)
    asked = design(datasets=("GlaS", "ISIC"), folds=5, metrics=("dice", "nsd"))
    notes = "\n".join(find_missing(ScoreTable(tuple(rows)), asked).notes)
    assert "GlaS: U-Net has no scores yet" in notes
    assert "ISIC: UDTransNet has no scores yet" in notes
    assert "no scores of the metric nsd" in notes
    assert "scores of stranger are there" in notes


def test_folds_that_differ_between_arms_are_reported() -> None:
    rows = [*generated({"UDTransNet": 0.0}, groups=10, folds=5), *generated({"U-Net": 0.0}, groups=10, folds=2)]
    notes = "\n".join(find_missing(ScoreTable(tuple(rows)), design()).notes)
    assert "were held out in different folds" in notes


def test_an_empty_study_expects_all_of_its_trainings() -> None:
    missing = find_missing(ScoreTable(()), design(datasets=("GlaS",), folds=5, seeds=(0, 1)))
    assert (missing.runs_found, missing.runs_expected) == (0, 20)
