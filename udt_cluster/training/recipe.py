"""Decisions that follow from the job alone: batches, optimizer, precision, DeepSpeed's settings. All pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import RefusedError

BUCKET_ELEMENTS = 10_000_000
"""Elements per collective. DeepSpeed's default of 5e8 is larger than these networks."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How a global batch is shared: ``global_size = micro_size * accumulation * world_size``."""

    global_size: int
    micro_size: int
    accumulation: int


def plan_batches(config: TrainConfig, *, world_size: int, micro_batch_size: int | None = None) -> BatchPlan:
    """Share the global batch among the ranks.

    Args:
        config: The recipe.
        world_size: Ranks.
        micro_batch_size: Samples per forward pass of one rank. Default: the recipe's, else no accumulation.

    Raises:
        RefusedError: it cannot be shared equally, or a rank would see fewer than 2 samples per forward pass, from
            which batch normalisation can compute no variance.
    """
    total = config.global_batch_size
    micro = micro_batch_size or config.micro_batch_size or total // world_size
    if micro < 2:
        raise RefusedError(
            f"train.global_batch_size={total} gives each of {world_size} workers {micro} samples per forward pass; "
            f"batch normalisation needs 2. Use resources.workers <= "
            f"{max(1, total // 2)} with a micro_batch_size >= 2, or a global_batch_size >= {2 * world_size}"
        )
    if total % (micro * world_size):
        raise RefusedError(
            f"train.global_batch_size={total} is not a multiple of {world_size} workers * micro_batch_size={micro}; "
            f"use a multiple of {micro * world_size}"
        )
    return BatchPlan(global_size=total, micro_size=micro, accumulation=total // (micro * world_size))


def uses_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether forward passes run under bf16 autocast: ``auto`` means on a GPU."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def check_compile(config: TrainConfig, device: torch.device) -> None:
    """Refuse a compilation that cannot be had.

    Raises:
        RefusedError: ``compile`` on a CPU, where it was measured to be slower, or with ZeRO-3's partitioned weights.
    """
    if config.compile and device.type != "cuda":
        raise RefusedError(
            f"train.compile is for a GPU, this worker has device {device.type}; set train.compile: false"
        )
    if config.compile and config.zero_stage == 3:
        raise RefusedError(
            "train.compile does not work with train.zero_stage: 3; use a stage of 0..2, or compile: false"
        )


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The job's optimizer, a torch one: DeepSpeed's own would be compiled at run time."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.Adam(parameters, lr=config.lr)


def deepspeed_config(config: TrainConfig, plan: BatchPlan, *, bf16: bool) -> dict[str, Any]:
    """DeepSpeed's settings.

    - ``gradient_clipping`` is always written: its default is 1.0, on.
    - bf16 goes by ``torch_autocast``; a ``bf16`` block would cast BatchNorm's weights and not its buffers.
    - The throughput timer is off: it synchronises the device twice a step, and the loop has its own.
    """
    settings: dict[str, Any] = {
        "train_batch_size": plan.global_size,
        "train_micro_batch_size_per_gpu": plan.micro_size,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": {"stage": config.zero_stage},
        "timers": {"throughput": {"enabled": False}},
        "wall_clock_breakdown": False,
    }
    if config.zero_stage:
        settings["zero_optimization"] |= _partitioning(config.zero_stage)
    if bf16:
        settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return settings


def _partitioning(stage: int) -> dict[str, Any]:
    buckets = {"reduce_bucket_size": BUCKET_ELEMENTS}
    if stage < 3:
        return {**buckets, "allgather_bucket_size": BUCKET_ELEMENTS}
    return {
        **buckets,
        "stage3_prefetch_bucket_size": BUCKET_ELEMENTS,
        "stage3_max_live_parameters": 10 * BUCKET_ELEMENTS,
    }
