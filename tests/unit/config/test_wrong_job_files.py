"""Wrong job files: what is said, and where. Each row is a mistake that somebody makes."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from udt_cluster.config.load import check_job, load_job
from udt_cluster.config.problems import Problem
from udt_cluster.errors import JobFileError

RIGHT = """\
version: 1
name: heart
data:
  source: /data/heart
  adapter: acdc
  group_by: patient
model:
  num_heads: 4
train:
  epochs: 10
  lr: 1e-3
repeat:
  folds: [0]
resources:
  workers: 2
"""


@dataclass(frozen=True)
class Wrong:
    """A job file made wrong by replacing `old` by `new`, and what must be said of it."""

    id: str
    old: str
    new: str
    line: int
    field: str
    says: str


TABLE = [
    Wrong("typo_of_a_key", "  epochs:", "  epohcs:", 10, "train.epohcs", "did you mean train.epochs?"),
    Wrong("key_of_another_section", "  num_heads: 4", "  lr: 0.1", 8, "model.lr", "did you mean train.lr?"),
    Wrong("key_at_the_top", "repeat:", "epochs: 3\nrepeat:", 12, "epochs", "did you mean train.epochs?"),
    Wrong("synonym", "  lr: 1e-3", "  learning_rate: 1", 11, "train.learning_rate", "did you mean train.lr?"),
    Wrong("batch_size", "  lr:", "  batch_size:", 11, "train.batch_size", "did you mean train.global_batch_size?"),
    Wrong("max_epochs", "  epochs:", "  max-epochs:", 10, "train.max-epochs", "did you mean train.epochs?"),
    Wrong("gpus", "  workers: 2", "  gpus: 2", 15, "resources.gpus", "did you mean resources.workers"),
    Wrong("workers_in_train", "  lr: 1e-3", "  workers: 2", 11, "train.workers", "did you mean resources.workers?"),
    Wrong("folds_in_data", "  group_by: patient", "  folds: 5", 6, "data.folds", "data.splits.k"),
    Wrong("seed", "repeat:", "seed: 3\nrepeat:", 12, "seed", "did you mean repeat.seeds or data.splits.seed?"),
    Wrong("upper_case_key", "  epochs:", "  Epochs:", 10, "train.Epochs", "did you mean train.epochs?"),
    Wrong("section_indented", "model:\n  num_heads: 4", "  model: {}", 7, "data.model", "stands at the top"),
    Wrong("unknown_without_a_neighbour", "  lr:", "  zzzzz:", 11, "train.zzzzz", "Allowed in train: epochs, "),
    Wrong("a_target_in_a_job", "repeat:", "target: gpu1\nrepeat:", 12, "target", "--target"),
    Wrong("environment", "repeat:", "runtime_env: {pip: [x]}\nrepeat:", 12, "runtime_env", "holds no environment"),
    Wrong("word_for_number", "epochs: 10", "epochs: ten", 10, "train.epochs", "must be a whole number, got 'ten'"),
    Wrong("fraction", "epochs: 10", "epochs: 1.5", 10, "train.epochs", "must be a whole number, got 1.5"),
    Wrong("quoted_number", "epochs: 10", "epochs: '10'", 10, "train.epochs", "write it without quotes"),
    Wrong("truth_for_number", "epochs: 10", "epochs: true", 10, "train.epochs", "must be a whole number, got true"),
    Wrong("zero_epochs", "epochs: 10", "epochs: 0", 10, "train.epochs", "must be at least 1, got 0"),
    Wrong("no_value", "epochs: 10", "epochs:", 10, "train.epochs", "must be a whole number, got nothing"),
    Wrong("infinite", "lr: 1e-3", "lr: .inf", 11, "train.lr", "must be a finite number"),
    Wrong("not_a_number", "lr: 1e-3", "lr: .nan", 11, "train.lr", "must be a finite number"),
    Wrong("lr_too_large", "lr: 1e-3", "lr: 100", 11, "train.lr", "must be at most 10, got 100"),
    Wrong("yes", "  lr: 1e-3", "  compile: yes", 11, "train.compile", "must be true or false, got 'yes': write true"),
    Wrong("choice", "adapter: acdc", "adapter: acd", 5, "data.adapter", "did you mean acdc?"),
    Wrong("choice_is_listed", "adapter: acdc", "adapter: 7", 5, "data.adapter", "one of acdc, arrays, "),
    Wrong("loss", "  lr: 1e-3", "  loss: dice", 11, "train.loss", "did you mean dice_bce or dice_ce?"),
    Wrong("precision", "  lr: 1e-3", "  precision: fp16", 11, "train.precision", "one of auto, fp32, bf16, got 'fp16'"),
    Wrong("gpus_per_worker", "  workers: 2", "  gpus_per_worker: 2", 15, "resources.gpus_per_worker", "auto, 0, 1"),
    Wrong("scalar_for_list", "folds: [0]", "folds: 0", 13, "repeat.folds", "must be a list, got 0: write [0]"),
    Wrong("empty_list", "folds: [0]", "folds: []", 13, "repeat.folds", "must have at least 1 entry, got 0"),
    Wrong("same_fold_twice", "folds: [0]", "folds: [1, 1]", 13, "repeat.folds", "the same number twice"),
    Wrong(
        "fold_outside",
        "folds: [0]",
        "folds: [5]",
        13,
        "repeat.folds",
        "fold 5 does not exist: k=5 folds are counted 0..4 (data.splits.k)",
    ),
    Wrong("entry_of_a_list", "folds: [0]", "folds: [0, x]", 13, "repeat.folds[1]", "must be a whole number, got 'x'"),
    Wrong("size_not_of_16", "group_by: patient", "size: [60, 64]", 6, "data.size", "the nearest are [64, 64]"),
    Wrong("size_short", "group_by: patient", "size: [64]", 6, "data.size", "must have 2 entries, got 1"),
    Wrong("size_long", "group_by: patient", "size: [64, 64, 3]", 6, "data.size", "at most 2 entries, got 3"),
    Wrong("size_a_number", "group_by: patient", "size: 64", 6, "data.size", "must be a list, got 64"),
    Wrong("three_skips", "num_heads: 4", "skips: [none, none, none]", 8, "model.skips", "at least 4 entries, got 3"),
    Wrong("skip_kind", "num_heads: 4", "skips: [no, none, none, none]", 8, "model.skips[0]", "did you mean none?"),
    Wrong("heads", "num_heads: 4", "num_heads: 3", 8, "model.num_heads", "does not divide embed_dim=128"),
    Wrong(
        "dra_of_unet",
        "  num_heads: 4",
        "  architecture: unet\n  skips: [none, none, none, dra_channel]",
        9,
        "model.skips",
        "allowed kinds: identity, none",
    ),
    Wrong(
        "pretrained_unet",
        "  num_heads: 4",
        "  architecture: unet\n  pretrained: imagenet",
        9,
        "model.pretrained",
        "unet has no ResNet34 encoder",
    ),
    Wrong("adam_decay", "  lr: 1e-3", "  weight_decay: 0.1", 11, "train.weight_decay", "use optimizer: adamw"),
    Wrong(
        "batch_and_workers",
        "  workers: 2",
        "  workers: 3",
        15,
        "resources.workers",
        "cannot be shared by 3 workers",
    ),
    Wrong("one_sample", "  lr: 1e-3", "  global_batch_size: 2", 11, "train.global_batch_size", "nearest that can: 4"),
    Wrong("duration", "  lr: 1e-3", "  checkpoint_every: 10", 11, "train.checkpoint_every", "10m"),
    Wrong("number_for_name", "name: heart", "name: 5", 2, "name", "must be text, got 5: put it in quotes"),
    Wrong("name", "name: heart", "name: My Heart", 2, "name", "for example my-heart"),
    Wrong("no_name", "name: heart\n", "", 1, "name", "is missing"),
    Wrong("no_source", "  source: /data/heart\n", "", 3, "data.source", "is missing. Folder or `s3://` prefix"),
    Wrong("google", "source: /data/heart", "source: gs://b/x", 4, "data.source", "a folder or an s3:// prefix"),
    Wrong("empty_section", "  num_heads: 4\n", "", 7, "model", "the section is empty"),
    Wrong("value_for_section", "model:\n  num_heads: 4", "model: unet", 7, "model", "must be a section"),
    Wrong("list_for_section", "model:\n  num_heads: 4", "model: [unet]", 7, "model", "must be a section"),
    Wrong("tune", "repeat:", "tune: {search: {train.lr: {choice: [1]}}}\nrepeat:", 12, "tune.budget", "needs an end"),
    Wrong("stage_order", "repeat:", "stages: [train, prepare]\nrepeat:", 12, "stages", "in the order"),
    Wrong("stage_missing", "repeat:", "stages: [train]\nrepeat:", 12, "stages", "train needs prepare"),
    Wrong("version", "version: 1", "version: 2", 1, "version", "must be 1, got 2"),
    Wrong("pairs_of_acdc", "  group_by: patient", "  pairs: {masks: m}", 6, "data.pairs", "data.adapter: dicom or"),
    Wrong("background", "  group_by: patient", "  classes: [background, a]", 6, "data.classes", "foreground classes"),
    # A field that is missing is reported where its section begins.
    Wrong(
        "folder", "adapter: acdc\n  group_by: patient", "adapter: image_folder", 3, "data.group_by", "group_by: case"
    ),
    Wrong(
        "labels_without_classes",
        "adapter: acdc\n  group_by: patient",
        "adapter: image_folder\n  group_by: case\n  label_values: [1, 2]",
        7,
        "data.label_values",
        "every class has one value",
    ),
]


def findings(path: Path, text: str, *overrides: str) -> tuple[Problem, ...]:
    path.write_text(text)
    found = check_job(path, overrides)
    assert isinstance(found, tuple), "the file was accepted"
    return found


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.id)
def test_a_wrong_file_is_told_line_field_and_remedy(wrong: Wrong, tmp_path: Path) -> None:
    assert RIGHT.count(wrong.old) == 1
    path = tmp_path / "job.yaml"
    (problem,) = findings(path, RIGHT.replace(wrong.old, wrong.new))
    assert (problem.line, problem.field) == (wrong.line, wrong.field)
    assert wrong.says in problem.message
    assert str(problem).startswith(f"{path}:{wrong.line}: {wrong.field}: ")
    assert not re.search(r"Input should|Value error|pydantic|validat", str(problem))


def test_the_file_that_the_table_changes_is_right(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(RIGHT)
    assert load_job(path).train.epochs == 10


def test_everything_is_said_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = RIGHT.replace("epochs: 10", "epochs: ten").replace("name: heart", "name: A").replace("lr:", "rate:")
    (tmp_path / "job.yaml").write_text(text.replace("folds: [0]", "folds: [9]"))
    with pytest.raises(JobFileError) as raised:
        load_job(tmp_path / "job.yaml")
    lines = [int(problem.split(":")[1]) for problem in raised.value.problems]
    assert lines == [2, 10, 11, 13]
    assert raised.value.exit_code == 2
    assert "4 problems" in str(raised.value)


def test_a_check_between_fields_is_not_hidden_by_another_mistake(tmp_path: Path) -> None:
    text = RIGHT.replace("name: heart", "name: A").replace("workers: 2", "workers: 3")
    assert [problem.field for problem in findings(tmp_path / "job.yaml", text)] == ["name", "resources.workers"]


def test_a_wrong_field_does_not_draw_findings_about_what_stands_in_for_it(tmp_path: Path) -> None:
    text = RIGHT.replace("num_heads: 4", "num_heads: four\n  embed_dim: 99")
    assert [problem.field for problem in findings(tmp_path / "job.yaml", text)] == ["model.num_heads"]


def test_a_misspelt_required_key_is_one_finding_not_two(tmp_path: Path) -> None:
    (problem,) = findings(tmp_path / "job.yaml", RIGHT.replace("  adapter:", "  adaptor:"))
    assert problem.suggested == ("data.adapter",)


def test_the_keys_of_a_section_are_listed_once(tmp_path: Path) -> None:
    problems = findings(tmp_path / "job.yaml", RIGHT.replace("  epochs:", "  aaaa:").replace("  lr:", "  bbbb:"))
    assert [("Allowed in train" in problem.message) for problem in problems] == [True, False]


@pytest.mark.parametrize(
    ("override", "field", "says"),
    [
        ("train.epochs=ten", "train.epochs", "must be a whole number, got 'ten'"),
        ("train.epoch=3", "train.epoch", "did you mean train.epochs?"),
        ("epochs=3", "epochs", "did you mean train.epochs?"),
        ("trian.epochs=3", "trian.epochs", "did you mean train.epochs?"),
        ("train.epochs.x=3", "train.epochs.x", "train.epochs is a value and has no keys"),
        ("data.size=[64", "data.size", "a '[' is not closed"),
        ("data.size=[60,64]", "data.size", "multiples of 16"),
        ("train.lr=", "train.lr", "must be a number, got nothing"),
        ("train={epochs: 5, foo: 1}", "train.foo", "unknown key"),
        ("train.epochs", "", "write --set section.key=value"),
        ("=5", "", "write --set section.key=value"),
        ("repeat.folds=&a [*a]", "repeat.folds", "the anchor &a"),
    ],
)
def test_a_wrong_override_is_told_like_a_wrong_file(override: str, field: str, says: str, tmp_path: Path) -> None:
    problem = findings(tmp_path / "job.yaml", RIGHT, override)[0]
    assert (problem.place, problem.field, problem.line) == (f"--set {override}", field, None)
    assert says in problem.message
