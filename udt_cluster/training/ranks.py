"""The process group: joined when somebody (Ray) made one, otherwise made. The same code runs on gloo and on NCCL."""

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join_process_group(device: torch.device) -> tuple[int, int]:
    """Rank and world size, once there is a process group.

    A group that exists is used as it is. Else the usual variables (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``,
    ``MASTER_PORT``) say who the others are, and without them this process is alone, with no port opened.
    """
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    return dist.get_rank(), dist.get_world_size()


def gather_objects(value: Any) -> list[Any]:
    """The picklable values of all ranks, by rank."""
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean over the ranks, in place; the same bits on each."""
    if dist.get_world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()
    return tensor


def broadcast_weights(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if dist.get_world_size() > 1:
        with torch.no_grad():
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor, src=0)


def average_buffers(module: nn.Module) -> None:
    """Set every floating-point buffer to its mean over the ranks.

    Batch normalisation's running mean becomes that of all samples seen; its running variance the mean of the ranks'
    variances, which leaves out the spread between the ranks' means.
    """
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if dist.get_world_size() > 1 and buffers:
        _unflatten_into(mean_over_ranks(_flatten(buffers)), buffers)


def _flatten(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors])


def _unflatten_into(flat: Tensor, tensors: list[Tensor]) -> None:
    for part, tensor in zip(torch.split(flat, [tensor.numel() for tensor in tensors]), tensors, strict=True):
        tensor.copy_(part.view_as(tensor))
