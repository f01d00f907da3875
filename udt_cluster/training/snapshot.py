"""Weights, optimizer state and random states as safetensors: nothing is unpickled, any world size may read them."""

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from udt_cluster.errors import CorruptError, VersionError

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def save_weights(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a state dict (parameters and buffers) as ``model.safetensors``."""
    save_file({name: _portable(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Copy ``model.safetensors`` into the module, wherever its tensors lie and however they are strided.

    Raises:
        CorruptError: names or shapes differ from the module's.
    """
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise CorruptError(f"{WEIGHTS} does not fit the network: {error}") from error


def save_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, folder: Path) -> None:
    """Write the state of Adam or AdamW as ``optimizer.safetensors``, keyed ``<state>/<parameter name>``.

    Hyper-parameters are not written: they come from the job, and the learning rate from the epoch.
    """
    tensors = {
        f"{key}/{name}": _portable(value)
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    save_file(tensors, folder / OPTIMIZER)


def load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, folder: Path) -> None:
    """The inverse of :func:`save_optimizer`; the state moves to its parameter's device, step counters stay put.

    Raises:
        CorruptError: the state of a parameter that the module does not have.
    """
    parameters = dict(module.named_parameters())
    loaded: dict[Tensor, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / OPTIMIZER).items():
        kind, _, name = key.partition("/")
        if name not in parameters:
            raise CorruptError(f"{OPTIMIZER} has a state of {name!r}, which the network does not have")
        parameter = parameters[name]
        loaded.setdefault(parameter, {})[kind] = tensor if kind == "step" else _like(tensor, parameter)
    optimizer.state.clear()
    optimizer.state.update(loaded)


def check_resumable(name: str, *, saved: tuple[int, int], asked: tuple[int, int]) -> None:
    """Refuse a checkpoint that an engine cannot take up.

    Args:
        name: The checkpoint, for the message.
        saved: ZeRO stage and number of workers that wrote it.
        asked: ZeRO stage and number of workers that are to read it.

    Raises:
        VersionError: with what to set instead.
    """
    (saved_stage, saved_size), (stage, size) = saved, asked
    if saved_stage != stage:
        raise VersionError(
            f"checkpoint {name} was written with train.zero_stage: {saved_stage}, this run has {stage}; "
            f"set zero_stage: {saved_stage}, or start anew"
        )
    if stage and saved_size != size:
        raise VersionError(
            f"checkpoint {name} was written by {saved_size} workers with train.zero_stage: {stage}, this run has "
            f"{size}; set resources.workers: {saved_size}. Only zero_stage: 0 resumes with any number of workers"
        )


def seed_all(seed: int, *, rank: int = 0) -> None:
    """Seed every global generator from (seed, rank): torch (all devices), numpy, random."""
    words = np.random.SeedSequence([seed, rank]).generate_state(4, np.uint32).tolist()
    torch.manual_seed((words[0] << 32) | words[1])
    np.random.seed(words[2])
    random.seed(words[3])


def save_random_state(folder: Path, *, rank: int) -> None:
    """Write the states of torch's generators, of the CPU and of the current GPU. Nothing else draws while training."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, _random_file(folder, rank))


def load_random_state(folder: Path, *, rank: int) -> bool:
    """Restore what :func:`save_random_state` wrote; False when the checkpoint has no such rank."""
    if not _random_file(folder, rank).exists():
        return False
    states = load_file(_random_file(folder, rank))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    return True


def _random_file(folder: Path, rank: int) -> Path:
    return folder / f"random-{rank:05d}.safetensors"


def _portable(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses shared storage and keeps no strides."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _like(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    return torch.empty_like(parameter).copy_(tensor)
