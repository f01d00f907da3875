"""The section `tune`: what is meant by it, and what is refused with file, line, field and the remedy."""

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

from udt_cluster.config.arms import arm_job, arms_of, datasets_of, is_about_skips, skip_levels
from udt_cluster.config.expressions import Constraint
from udt_cluster.config.job import STAGES, Job
from udt_cluster.config.load import check_job
from udt_cluster.config.spaces import all_points, count_points, dimensions, settings_at

HEAD = "name: a\ndata: {source: /data/glas, adapter: glas, group_by: case}\n"
SPACE = "model.num_heads: {choice: [1, 2]}"


def checked(folder: Path, search: str, more: str = "budget: {trials: 5}", job: str = "") -> Job | str:
    """The job, or what is wrong with it, a line each."""
    path = folder / "sweep.yaml"
    section = f"search:\n{indent(dedent(search), '  ')}\n{dedent(more)}"
    path.write_text(f"{HEAD}{dedent(job)}\ntune:\n{indent(section, '  ')}\n")
    found = check_job(path)
    return found if isinstance(found, Job) else "\n".join(map(str, found)).replace(f"{folder}/", "")


def test_a_sweep_is_a_stage_of_its_job(tmp_path: Path) -> None:
    job = checked(tmp_path, SPACE)
    assert isinstance(job, Job)
    assert job.stages == STAGES
    assert Job.from_json(job.to_json()) == job
    trial = job.with_settings({"model.num_heads": 2, "train.lr": 0.01})
    assert (trial.model.num_heads, trial.train.lr, trial.tune) == (2, 0.01, None)
    assert trial.stages == ("prepare", "train", "evaluate", "register")


@pytest.mark.parametrize(
    ("search", "more", "sentence"),
    [
        ("model.nheads: {choice: [1]}", "", "sweep.yaml:6: tune.search.model.nheads: .*did you mean model.num_heads"),
        ("train.epochs: {int: [1, 9]}", "", "sweep.yaml:6: tune.search.train.epochs: cannot be searched: .*most that"),
        ("data.size: {choice: [1]}", "", "tune.search.data.size: cannot be searched: every size is another data set"),
        ("model.num_heads: {choice: [1, two]}", "", "model.num_heads: must be a whole number, got 'two'"),
        ("model.architecture: {choice: [unet, vnet]}", "", "must be one of udtransnet, unet, r34_unet, got 'vnet'"),
        ("model.num_heads: {choice: [1, 99]}", "", "model.num_heads: must be at most 64, got 99"),
        ("train.lr: {uniform: [0, 1]}", "", "train.lr: must be above 0, got 0"),
        ("model.num_heads: {choice: []}", "", "model.num_heads.choice: must have at least 1 entry"),
        ("model.num_heads: {choice: [1, 1]}", "", "the same value twice"),
        ("model.num_heads: [1, 2]", "", r"got \[1, 2\]: write {choice: \[1, 2\]}"),
        ("model.num_heads: {one_of: [1]}", "", "unknown key.*Allowed in tune.search: choice"),
        ("model.num_heads: {}", "", "exactly one of choice, .*this one has none"),
        ("model.num_heads: {int: [1, 4], choice: [1]}", "", "this one has choice and int"),
        ("train.lr: {log: [1e-2, 1e-4]}", "", "the lowest value comes first"),
        ("train.lr: {log: [0, 1e-4]}", "", "both ends must be above 0; write uniform"),
        ("model.num_heads: {subsets: true}", "", "subsets is for model.skips"),
        ("model.skips: {int: [1, 4]}", "", "int is for numbers; write subsets: true"),
        ("train.lr: {log: [1e-4, 1e-2]}", "searcher: grid", "no end of values.*or searcher: random"),
        (
            SPACE,
            "metric: val_iou\nbudget: {trials: 1}",
            "sweep.yaml:7: tune.metric: is never reported.*val_dice_class_1",
        ),
        (SPACE, "metric: val_dice_class_2\nbudget: {trials: 1}", "never reported: the data set has 1 foreground class"),
        (SPACE, "budget: {trials: 0}", "sweep.yaml:7: tune.budget.trials: must be at least 1, got 0"),
        (SPACE, "budget: {gpu_hours: 0}", "tune.budget.gpu_hours: must be above 0"),
        (SPACE, "seed: 1", "tune.budget: a sweep needs an end"),
        (SPACE, "budget: {trials: 1}\nfolds: [7]", r"tune.folds: \[7\]: data.splits has 5 folds"),
        (SPACE, "budget: {trials: 1}\nmin_epochs: 101", "101 is more than a trial has: train.epochs=100"),
        (SPACE, "budget: {trials: 1}\nconstraints: [params < 3]", "names params; known are fields and parameters"),
        (SPACE, "budget: {trials: 1}\nconstraints: ['print(1) < 2']", "must be a comparison of numbers and fields"),
        ("model.num_heads: {choice: [3, 5]}", "", "no combination of these values can be built.*does not divide"),
        (
            "model.num_heads: {choice: [1], when: {model.architecture: unet}}",
            "",
            "when names model.architecture, which is not searched",
        ),
        (
            "model.architecture: {choice: [udtransnet]}\n"
            "model.num_heads: {choice: [1], when: {model.architecture: unet}}",
            "",
            "when model.architecture is 'unet', which it never is",
        ),
        (
            "model.num_heads: {choice: [1], when: {model.num_layers: 2}}\n"
            "model.num_layers: {choice: [2], when: {model.num_heads: 1}}",
            "",
            "leads in a circle",
        ),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused(tmp_path: Path, search: str, more: str, sentence: str) -> None:
    found = checked(tmp_path, search, more or "budget: {trials: 5}")
    assert isinstance(found, str), "it was taken"
    assert re.search(sentence, found), found
    assert "sweep.yaml:" in found


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    found = checked(tmp_path, "model.nheads: {choice: [1]}\ntrain.lr: {log: [1, 0.1]}", "budget: {trials: -1}")
    assert isinstance(found, str)
    assert [line.split(": ")[1] for line in found.splitlines()] == [
        "tune.search.model.nheads",
        "tune.search.train.lr",
        "tune.budget.trials",
    ]


def test_a_sweep_never_looks_at_the_test_cases(tmp_path: Path) -> None:
    found = checked(tmp_path, SPACE, job="evaluate: {test: true}")
    assert "evaluate.test: a job that chooses by scores never looks at the test cases" in str(found)


def test_a_stage_without_a_sweep_and_a_sweep_without_a_stage(tmp_path: Path) -> None:
    assert "the sweep of the section tune is not done" in str(checked(tmp_path, SPACE, job="stages: [prepare, train]"))
    path = tmp_path / "plain.yaml"
    path.write_text(f"{HEAD}stages: [prepare, tune]\n")
    found = check_job(path)
    assert not isinstance(found, Job)
    assert "tune needs a section tune" in str(found[0])


def sweep(folder: Path, search: str, **more: str) -> Job:
    job = checked(folder, search, **more)
    assert isinstance(job, Job), job
    assert job.tune is not None
    return job


def test_ranges_include_both_ends(tmp_path: Path) -> None:
    job = sweep(tmp_path, "model.num_layers: {int: [1, 8]}")
    assert job.tune
    assert [point["model.num_layers"] for point in all_points(job.tune.search)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("space", "architecture", "present", "absent"),
    [
        ("true", "udtransnet", "dra_channel", "none"),
        ("true", "unet", "identity", "none"),
        ("{absent: zero}", "unet", "identity", "zero"),
        ("{present: dat}", "udtransnet", "dat", "none"),
    ],
)
def test_subsets_are_sixteen(tmp_path: Path, space: str, architecture: str, present: str, absent: str) -> None:
    job = sweep(tmp_path, f"model.skips: {{subsets: {space}}}", job=f"model: {{architecture: {architecture}}}")
    assert job.tune
    points = list(all_points(job.tune.search))
    made = [settings_at(point, job.tune.search, architecture=architecture) for point in points]
    assert len(made) == 16 == count_points(job.tune.search)
    assert made[0] == {"model.skips": [present] * 4}
    assert made[-1] == {"model.skips": [absent] * 4}
    assert [job.with_settings(settings).model.skip_kinds for settings in made][1] == (*[present] * 3, absent)


def test_each_level_has_its_own_kind(tmp_path: Path) -> None:
    job = sweep(tmp_path, "model.skips: {each: [none, identity, dra_spatial]}")
    assert job.tune
    assert count_points(job.tune.search) == 81
    assert [dim.name for dim in dimensions(job.tune.search)] == [f"model.skips.{level}" for level in (1, 2, 3, 4)]


def test_a_condition_closes_what_would_mean_nothing(tmp_path: Path) -> None:
    search = """\
        model.num_heads: {choice: [1, 2, 4], when: {model.architecture: udtransnet}}
        model.architecture: {choice: [udtransnet, unet]}
    """
    job = sweep(tmp_path, search)
    assert job.tune
    points = list(all_points(job.tune.search))
    assert points == [
        {"model.architecture": "udtransnet", "model.num_heads": 1},
        {"model.architecture": "udtransnet", "model.num_heads": 2},
        {"model.architecture": "udtransnet", "model.num_heads": 4},
        {"model.architecture": "unet"},
    ]


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("parameters <= 40e6", {"parameters": 33_000_000}, True),
        ("parameters <= 40e6", {"parameters": 41_000_000}, False),
        ("model.embed_dim >= 16 * model.num_heads", {"model.embed_dim": 64, "model.num_heads": 4}, True),
        ("model.embed_dim >= 16 * model.num_heads", {"model.embed_dim": 64, "model.num_heads": 8}, False),
        ("1 < model.num_heads <= 4", {"model.num_heads": 4}, True),
        ("model.architecture == 'unet'", {"model.architecture": "unet"}, True),
        ("-gmac + 3 // 2 > (0 - 5) % 4", {"gmac": -3}, True),
        ("gmac < 'a'", {"gmac": 3}, False),
        ("gmac / 0 < 3", {"gmac": 3}, False),
        ("model.num_heads < 3", {}, False),
    ],
)
def test_constraints(text: str, values: dict[str, object], holds: bool) -> None:
    assert Constraint(text).holds(values) is holds


@pytest.mark.parametrize(
    "text",
    [
        *("1", "a", "a and b", "a < b or b < c", "f(a) < 1", "a[0] < 1", "[1] < a", "a < 10**9**9", "a in b", "a <"),
        *("(" * 150, "a < " + "1+" * 200 + "1", "lambda: 1 < 2", "`ls` < 1"),
    ],
)
def test_what_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a comparison|longer than"):
        Constraint(text)


def test_text_cannot_be_made_long() -> None:
    assert not Constraint("'a' * 1000000000000 == 3").holds({})


STUDY = """\
question: Which skips are needed here?
reference: all
arms: {all: {}, none: {model.skips: [none, none, none, none]}}
"""


def study(folder: Path, text: str) -> Job | str:
    """The job, or what is wrong with it, a line each."""
    path = folder / "study.yaml"
    path.write_text(f"{HEAD}model: {{architecture: unet}}\nstudy:\n{indent(dedent(text), '  ')}\n")
    found = check_job(path)
    return found if isinstance(found, Job) else "\n".join(map(str, found)).replace(f"{folder}/", "")


def test_a_study_prepares_and_asks(tmp_path: Path) -> None:
    job = study(tmp_path, STUDY)
    assert isinstance(job, Job), job
    assert job.stages == ("prepare", "study")
    assert list(arms_of(job)) == ["all", "none"]
    assert [skip_levels(job, settings) for settings in arms_of(job).values()] == [(1, 2, 3, 4), ()]
    assert is_about_skips(job)
    assert Job.from_json(job.to_json()) == job


def test_a_study_names_its_arms_by_what_they_change(tmp_path: Path) -> None:
    text = """\
        question: Which skips are needed here?
        reference: skips all
        vary:
          model.skips: {subsets: true}
    """
    job = study(tmp_path, text)
    assert isinstance(job, Job), job
    names = list(arms_of(job))
    assert len(names) == 16
    assert names[:3] == ["skips all", "skips 1+2+3", "skips 1+2+4"]
    assert names[-1] == "skips none"


def test_a_study_may_have_more_data_sets(tmp_path: Path) -> None:
    more = "datasets:\n  lesions: {source: isic, adapter: isic2018, group_by: case, size: [64, 64]}\n"
    job = study(tmp_path, f"{STUDY}\n{more}")
    assert isinstance(job, Job), job
    assert list(datasets_of(job)) == ["glas", "lesions"]
    arm = arm_job(job, {"model.skips": ["none"] * 4}, "lesions")
    assert (arm.data.size, arm.model.skip_kinds, arm.study) == ((64, 64), ("none",) * 4, None)
    assert arm.data.source == str(tmp_path / "isic"), "a path in a job file is seen from there"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("here?", "here", "study.yaml:5: study.question: a question ends with a question mark"),
        ("reference: all", "reference: full", "study.reference: there is no arm 'full'; the arms: all, none"),
        ("all: {}", "all: {model.depth: 3}", "study.arms.all: model.depth: is no field that can be searched"),
        ("all: {}", "all: {model.skips: [dat, dat, dat, dat]}", "study.arms.all: cannot be built: .*no transformer"),
        ("{all: {}, ", "{", "a study compares at least two arms, this one has 1"),
        ("reference", "comparisons: [[all, some]]\nreference", "study.comparisons: there is no arm 'some'"),
        ("reference", "comparisons: [[all, all]]\nreference", "'all' is compared with itself"),
        ("reference", "vary: {train.lr: {log: [0.1, 1]}}\nreference", "no end of values; write choice"),
        (
            "reference",
            "datasets: {glas: {source: a, adapter: acdc}}\nreference",
            "the job's own data set has this name",
        ),
        ("reference", "datasets: {x: {source: a, adapter: nothing}}\nreference", "adapter"),
        ("reference", "datasets: {x: {source: a, adapter: nifti}}\nreference", "study.datasets.x: data.group_by: "),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert STUDY.count(old) >= 1
    found = study(tmp_path, STUDY.replace(old, new, 1))
    assert isinstance(found, str), "it was taken"
    assert re.search(sentence, found), found
