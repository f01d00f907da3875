"""Values that cannot be meant: the whole of what is said. The first part of an id is the finding that it mends."""

from collections.abc import Callable

import pytest

ACDC = "name: h\ndata:\n  source: /d\n  adapter: acdc\n  group_by: patient\n"

TOP = [
    pytest.param(
        "repeat: {folds: 3}",
        ["6: repeat.folds: must be a list, got 3: write [3] or [0, 1, 2]"],
        id="D5_one_fold_or_three",
    ),
    pytest.param(
        "repeat: {folds: 5}", ["6: repeat.folds: must be a list, got 5: write [0, 1, 2, 3, 4]"], id="D5_five_folds"
    ),
    pytest.param(
        "repeat: {folds: 0-4}", ["6: repeat.folds: must be a list, got '0-4': write [0, 1, 2, 3, 4]"], id="D5_range"
    ),
    pytest.param(
        "repeat: {folds: all}",
        ["6: repeat.folds: must be a list, got 'all': for example [0, 1, 2, 3, 4]"],
        id="D5_all_folds",
    ),
    pytest.param("repeat: {seeds: 3}", ["6: repeat.seeds: must be a list, got 3: write [3]"], id="D5_seeds"),
    pytest.param(
        "repeat: {seeds: all}", ["6: repeat.seeds: must be a list, got 'all': for example [1]"], id="D5_all_seeds"
    ),
    pytest.param(
        "stages: train", ["6: stages: must be a list, got 'train': write [prepare, train]"], id="D5_one_stage"
    ),
    pytest.param(
        "stages: prepare, train",
        ["6: stages: must be a list, got 'prepare, train': write [prepare, train]"],
        id="D5_stages_in_a_text",
    ),
    pytest.param(
        "evaluate: {metrics: dice}",
        ["6: evaluate.metrics: must be a list, got 'dice': write [dice]"],
        id="D5_one_metric",
    ),
    pytest.param(
        "model: {skips: identity}",
        ["6: model.skips: must be a list, got 'identity': write [identity, identity, identity, identity]"],
        id="D5_one_skip",
    ),
    pytest.param("train: {lr: nan}", ["6: train.lr: must be a number, got 'nan'"], id="D9_nan"),
    pytest.param(
        'train: {lr: "0,001"}',
        ["6: train.lr: must be a number, got '0,001': use a decimal point: 0.001"],
        id="D9_decimal_comma",
    ),
    pytest.param(
        "train:\n  lr: 1e-3,",
        ["7: train.lr: must be a number, got '1e-3,': write 1e-3, without ','"],
        id="D9_stray_comma",
    ),
    pytest.param(
        "model: {dropout: 10%}", ["6: model.dropout: must be a number, got '10%': write 0.1"], id="D9_percent"
    ),
    pytest.param(
        "train: {epochs: 5 epochs}", ["6: train.epochs: must be a whole number, got '5 epochs': write 5"], id="D9_unit"
    ),
    pytest.param(
        'train: {epochs: "1,000"}',
        ["6: train.epochs: must be a whole number, got '1,000': write 1000"],
        id="D9_thousands",
    ),
    pytest.param(
        "train: {lr: [1e-3, 1e-4]}",
        ["6: train.lr: must be a number, got [0.001, 0.0001]: write one of them"],
        id="D9_list_for_a_number",
    ),
    pytest.param(
        "train: {early_stopping: None}",
        ["6: train.early_stopping: must be a whole number, got 'None': write null for never"],
        id="D9_None",
    ),
    pytest.param(
        "train: {early_stopping: never}",
        ["6: train.early_stopping: must be a whole number, got 'never': write null for never"],
        id="D9_never",
    ),
    pytest.param(
        "train: {early_stopping: false}",
        ["6: train.early_stopping: must be a whole number, got false: write null for never"],
        id="D9_false",
    ),
    pytest.param(
        "train: {early_stopping: 0}",
        ["6: train.early_stopping: must be at least 1, got 0: write null for never"],
        id="D9_zero",
    ),
    pytest.param(
        "train: {micro_batch_size: none}",
        ["6: train.micro_batch_size: must be a whole number, got 'none': write null, or leave it out"],
        id="D9_none_of_a_size",
    ),
    pytest.param(
        "train: {gradient_clipping: off}",
        ["6: train.gradient_clipping: must be a number, got 'off': write 0 for off"],
        id="D9_off",
    ),
    pytest.param(
        "train: {compile: yes}", ["6: train.compile: must be true or false, got 'yes': write true"], id="D9_yes"
    ),
    pytest.param("train: {compile: 0}", ["6: train.compile: must be true or false, got 0: write false"], id="D9_0"),
    pytest.param(
        'evaluate: {test: "true"}',
        ["6: evaluate.test: must be true or false, got 'true': write true without quotes"],
        id="D9_quoted_truth",
    ),
    pytest.param(
        "repeat: {folds: [5]}",
        ["6: repeat.folds: fold 5 does not exist: k=5 folds are counted 0..4 (data.splits.k)"],
        id="D9_fold_outside",
    ),
    pytest.param(
        "repeat: {folds: [5, 6]}",
        ["6: repeat.folds: folds 5, 6 do not exist: k=5 folds are counted 0..4 (data.splits.k)"],
        id="D9_folds_outside",
    ),
    pytest.param(
        "train: {optimizer: {name: adam, lr: 1e-3}}",
        [
            (
                "6: train.optimizer: must be one of adam, adamw, got a section (name, lr): write optimizer: adam; lr "
                "is train.lr"
            )
        ],
        id="N03_section_for_a_value",
    ),
    pytest.param(
        "model: {optimizer: {name: adam, lr: 1e-3}}",
        [
            (
                "6: model.optimizer: unknown key; did you mean train.optimizer? It is a value (one of adam, adamw), "
                "not a section (name, lr); lr is train.lr. Allowed in model: architecture, skips, scales, attention, "
                "num_heads, num_layers, embed_dim, mlp_ratio, head_merge, dropout, pretrained"
            )
        ],
        id="N03_section_for_a_value_elsewhere",
    ),
    pytest.param(
        "train: {checkpoint_every: 10 minutes}",
        [
            (
                "6: train.checkpoint_every: a duration is a number above 0 with a unit: 90s, 10m, 1.5h, 2d; or epoch; "
                "got '10 minutes'; did you mean 10m?"
            )
        ],
        id="N13_minutes",
    ),
    pytest.param(
        "train: {precision: fp16}", ["6: train.precision: must be one of auto, fp32, bf16, got 'fp16'"], id="D11_fp16"
    ),
    pytest.param(
        "train: {loss: Dice}",
        ["6: train.loss: must be one of dice_bce, dice_ce, ce, got 'Dice'; did you mean dice_bce or dice_ce?"],
        id="D11_Dice",
    ),
    pytest.param(
        "model: {architecture: nnUNet}",
        ["6: model.architecture: must be one of udtransnet, unet, r34_unet, got 'nnUNet'"],
        id="D11_nnUNet",
    ),
    pytest.param(
        "train: {epochs: 99999999999999999999}",
        ["6: train.epochs: must be at most 1000000, got 99999999999999999999"],
        id="D6_epochs",
    ),
    pytest.param(
        "repeat: {seeds: [9223372036854775808]}",
        ["6: repeat.seeds[0]: must be at most 4294967295, got 9223372036854775808"],
        id="D6_seeds",
    ),
    pytest.param(
        "register: {alias: latest}",
        [
            (
                "6: register.alias: the registry keeps latest, v1, v2, ... for itself; for example candidate or "
                "champion; got 'latest'"
            )
        ],
        id="D1_latest",
    ),
    pytest.param(
        "register: {alias: v1}",
        [
            (
                "6: register.alias: the registry keeps latest, v1, v2, ... for itself; for example candidate or "
                "champion; got 'v1'"
            )
        ],
        id="D1_v1",
    ),
    pytest.param(
        "register: {alias: V1}",
        [
            (
                "6: register.alias: a name has 1 to 63 lower-case letters, digits and dashes, beginning with a letter "
                "or digit; got 'V1'; for example candidate"
            )
        ],
        id="D1_V1_is_not_proposed",
    ),
    pytest.param(
        "model: {pretrained: true}",
        [
            (
                "6: model.pretrained: must be none, imagenet or the path of a file (with a / or an extension such as "
                ".pth); got true; did you mean imagenet?"
            )
        ],
        id="D4_true",
    ),
    pytest.param(
        "model: {pretrained: ImageNet}",
        [
            (
                "6: model.pretrained: must be none, imagenet or the path of a file (with a / or an extension such as "
                ".pth); got 'ImageNet'; did you mean imagenet?"
            )
        ],
        id="D4_capitals",
    ),
    pytest.param(
        "model: {pretrained: None}",
        [
            (
                "6: model.pretrained: must be none, imagenet or the path of a file (with a / or an extension such as "
                ".pth); got 'None'; did you mean none?"
            )
        ],
        id="D4_None",
    ),
    pytest.param(
        "model: {pretrained: resnet50}",
        [
            (
                "6: model.pretrained: must be none, imagenet or the path of a file (with a / or an extension such as "
                ".pth); got 'resnet50'"
            )
        ],
        id="D4_resnet50",
    ),
    pytest.param(
        "model: {pretrained: null}",
        [
            (
                "6: model.pretrained: must be none, imagenet or the path of a file (with a / or an extension such as "
                ".pth); got nothing; did you mean none?"
            )
        ],
        id="D4_null",
    ),
    pytest.param(
        "model: {pretrained: $HOME/w.pth}",
        ["6: model.pretrained: variables are not expanded; write the path itself; got '$HOME/w.pth'"],
        id="D4_variable",
    ),
    pytest.param(
        "train: {init_from: foo@}",
        [
            (
                "6: train.init_from: must be name@alias, models:/name/3, or a model folder: ./folder, /folder, "
                "s3://bucket/folder; got 'foo@'"
            )
        ],
        id="D4_no_alias",
    ),
    pytest.param(
        'train: {init_from: "@x"}',
        [
            (
                "6: train.init_from: must be name@alias, models:/name/3, or a model folder: ./folder, /folder, "
                "s3://bucket/folder; got '@x'"
            )
        ],
        id="D4_no_name",
    ),
    pytest.param(
        "train: {init_from: models:/a/b/c}",
        [
            (
                "6: train.init_from: must be name@alias, models:/name/3, or a model folder: ./folder, /folder, "
                "s3://bucket/folder; got 'models:/a/b/c'"
            )
        ],
        id="D4_three_parts",
    ),
    pytest.param(
        "train: {init_from: http://x}",
        ["6: train.init_from: must be a folder or an s3:// prefix; got 'http://x'"],
        id="D4_http",
    ),
    pytest.param(
        "train: {loss: dice_bce}",
        ["6: train.loss: dice_bce is for one foreground class, data.adapter: acdc has 3; write dice_ce, or remove it"],
        id="D6_loss",
    ),
    pytest.param(
        "train: {compile: true}\nresources: {gpus_per_worker: 0}",
        ["6: train.compile: needs a GPU, and resources.gpus_per_worker is 0; write compile: false"],
        id="D6_compile",
    ),
    pytest.param(
        "model: {architecture: unet, num_heads: 8}",
        ["6: model.num_heads: unet has no transformer to take 8; remove it, or write 4"],
        id="D6_unet_with_heads",
    ),
    pytest.param(
        "train:\n  epochs:",
        ["7: train.epochs: must be a whole number, got nothing: give a value, or remove the line"],
        id="D8_no_value",
    ),
    pytest.param(
        "train:",
        ["6: train: the section is empty; indent its keys under it, or remove the line"],
        id="D8_empty_section",
    ),
    pytest.param(
        "train:\n  epochs=5",
        ["6: train: must be a section of `key: value` lines, got 'epochs=5'; write epochs: ..."],
        id="N_equals_sign",
    ),
    pytest.param(
        "train:\n  - epochs: 5\n  - lr: 1",
        [
            (
                "6: train: must be a section of `key: value` lines, got [{epochs: 5}, {lr: 1}]; remove the dashes in "
                "front of the keys"
            )
        ],
        id="N_dashes",
    ),
    pytest.param(
        "resources: {workers: two}",
        ["6: resources.workers: must be a number of workers from 1 to 1024, or {min: 1, max: 8}; got 'two'"],
        id="R_workers_in_words",
    ),
    pytest.param(
        "resources: {workers: 0}",
        ["6: resources.workers: must be a number of workers from 1 to 1024, or {min: 1, max: 8}; got 0"],
        id="R_no_workers",
    ),
    pytest.param(
        "resources: {workers: {min: 4, max: 2}}",
        ["6: resources.workers.min: min=4 is more than max=2"],
        id="R_workers_the_wrong_way_round",
    ),
    pytest.param(
        "resources: {workers: {min: 1, max: 4}}\ntrain: {zero_stage: 1}",
        [
            (
                "6: resources.workers: 1 to 4 needs train.zero_stage: 0, it is 1: checkpoints of stages 1..3 fit one "
                "number of workers; write zero_stage: 0, or workers: 4"
            )
        ],
        id="R_elastic_with_a_partitioned_optimizer",
    ),
    pytest.param(
        "retry: {hang: 10}",
        ["6: retry.hang: a duration is a number above 0 with a unit: 90s, 10m, 1.5h, 2d; got 10"],
        id="R_hang_without_a_unit",
    ),
    pytest.param(
        "resources: 2",
        [
            (
                "6: resources: must be a section of `key: value` lines, got 2; its keys: workers, gpus_per_worker, "
                "cpus_per_worker"
            )
        ],
        id="N_number_for_a_section",
    ),
    pytest.param(
        "evaluate: {metrics: [hausdorff]}",
        ["6: evaluate.metrics[0]: must be one of dice, iou, hd95, got 'hausdorff'; did you mean hd95?"],
        id="N_synonym_of_a_metric",
    ),
]


@pytest.mark.parametrize(("lines", "says"), TOP)
def test_a_wrong_value_is_told_with_its_remedy(lines: str, says: list[str], told: Callable[[str], list[str]]) -> None:
    assert told(f"{ACDC}{lines}\n") == says
