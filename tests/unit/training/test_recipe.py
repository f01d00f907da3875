import pytest
import torch

from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import RefusedError
from udt_cluster.training.recipe import (
    BatchPlan,
    build_optimizer,
    check_compile,
    deepspeed_config,
    plan_batches,
    uses_bf16,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("total", "micro", "world", "accumulation"),
    [(4, None, 1, 1), (4, None, 2, 1), (24, None, 4, 1), (24, 2, 4, 3), (4, 2, 1, 2), (16, 16, 1, 1)],
)
def test_the_global_batch_stays(total: int, micro: int | None, world: int, accumulation: int) -> None:
    config = TrainConfig(global_batch_size=total, micro_batch_size=micro)
    plan = plan_batches(config, world_size=world)
    assert plan.micro_size * plan.accumulation * world == plan.global_size == total
    assert plan.accumulation == accumulation


@pytest.mark.parametrize(
    ("total", "micro", "world", "message"),
    [
        (4, None, 4, "batch normalisation needs 2. Use resources.workers <= 2"),
        (4, 1, 1, "1 samples per forward pass"),
        (2, None, 3, "0 samples per forward pass"),
        (10, None, 4, "not a multiple of 4 workers"),
        (12, 4, 2, "use a multiple of 8"),
    ],
)
def test_what_cannot_be_shared_is_refused(total: int, micro: int | None, world: int, message: str) -> None:
    config = TrainConfig(global_batch_size=total)
    with pytest.raises(RefusedError, match=message):
        plan_batches(config, world_size=world, micro_batch_size=micro)


def test_an_explicit_micro_batch_goes_before_the_recipes() -> None:
    config = TrainConfig(global_batch_size=8, micro_batch_size=4)
    assert plan_batches(config, world_size=2, micro_batch_size=2).accumulation == 2


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", CPU, False), ("auto", CUDA, True), ("fp32", CUDA, False), ("bf16", CPU, True)],
)
def test_precision(precision: str, device: torch.device, expected: bool) -> None:
    assert uses_bf16(TrainConfig(precision=precision), device) is expected


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("clipping", [0.0, 0.5])
def test_deepspeed_config(stage: int, bf16: bool, clipping: float) -> None:
    config = TrainConfig(zero_stage=stage, gradient_clipping=clipping, global_batch_size=12, micro_batch_size=2)
    settings = deepspeed_config(config, BatchPlan(global_size=12, micro_size=2, accumulation=3), bf16=bf16)
    assert settings["train_batch_size"] == 12
    assert settings["train_micro_batch_size_per_gpu"] == 2
    assert settings["gradient_accumulation_steps"] == 3
    assert settings["gradient_clipping"] == clipping
    zero = settings["zero_optimization"]
    assert zero.pop("stage") == stage
    assert ("reduce_bucket_size" in zero) == (stage > 0)
    assert all(value <= 1e8 for value in zero.values())
    assert settings.get("torch_autocast") == ({"enabled": True, "dtype": "bfloat16"} if bf16 else None)
    assert settings.keys().isdisjoint({"bf16", "fp16", "optimizer", "scheduler", "amp", "elasticity"})


@pytest.mark.parametrize(("device", "stage", "word"), [(CPU, 0, "for a GPU"), (CUDA, 3, "zero_stage: 3")])
def test_a_compilation_that_cannot_be_had_is_refused(device: torch.device, stage: int, word: str) -> None:
    with pytest.raises(RefusedError, match=word):
        check_compile(TrainConfig(compile=True, zero_stage=stage), device)
    check_compile(TrainConfig(compile=False, zero_stage=stage), device)


def test_optimizers() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    adam = build_optimizer([weight], TrainConfig(lr=0.1))
    assert type(adam) is torch.optim.Adam
    assert adam.param_groups[0]["weight_decay"] == 0
    adamw = build_optimizer([weight], TrainConfig(optimizer="adamw", weight_decay=0.02, lr=0.1))
    assert type(adamw) is torch.optim.AdamW
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["weight_decay"]) == (0.1, 0.02)
