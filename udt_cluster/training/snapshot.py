"""Weights, optimizer state and random states as safetensors: nothing is unpickled, any world size may read them."""

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from udt_cluster.errors import CorruptError, VersionError
from udt_cluster.training.protocols import NonFiniteError

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
_BUFFER = "buffer/"


def save_weights(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a state dict (parameters and buffers) as ``model.safetensors``.

    Raises:
        NonFiniteError: a value is NaN or infinite; nothing was written. No checkpoint ever has such weights.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise NonFiniteError(
            f"the weights are not finite after the last step, in {', '.join(bad[:4])} ({len(bad)} tensors); they were "
            "not saved. Lower train.lr, set train.gradient_clipping: 1.0 or train.precision: fp32"
        )
    _write({name: _portable(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)


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
    _write(tensors, folder / OPTIMIZER)


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


def save_rank_state(module: nn.Module, folder: Path, *, rank: int) -> None:
    """Write what is a rank's own: random states, and statistics that differ between the ranks within an epoch.

    These are the states of torch's generators, of the CPU and of the current GPU (nothing else draws while training),
    and the floating-point buffers.
    """
    tensors = {f"{_BUFFER}{name}": _portable(buffer) for name, buffer in _float_buffers(module).items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    _write(tensors, _rank_file(folder, rank))


def load_rank_state(module: nn.Module, folder: Path, *, rank: int, saved_ranks: int, ranks: int, seed: int) -> None:
    """Restore what :func:`save_rank_state` wrote.

    Where the number of ranks has changed every rank takes the mean of all ranks' buffers, and a rank that there was
    not before begins a random stream of its own.

    Args:
        module: Its buffers are set.
        folder: Where the files of all ranks are.
        rank: This process.
        saved_ranks: How many ranks wrote.
        ranks: How many ranks read.
        seed: Of a new stream.

    Raises:
        CorruptError: a rank's file is missing, or has other buffers than the module.
    """
    wanted = [rank] if ranks == saved_ranks else list(range(saved_ranks))
    buffers = _float_buffers(module)
    parts = [_read_rank(folder, each, buffers) for each in wanted]
    with torch.no_grad():
        for name, buffer in buffers.items():
            values = [part[_BUFFER + name] for part in parts]
            buffer.copy_(values[0] if len(values) == 1 else torch.stack(values).mean(dim=0))
    if rank < saved_ranks:
        _load_random_state(parts[wanted.index(rank)])
    else:
        seed_all(seed, rank=rank)


def _read_rank(folder: Path, rank: int, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    path = _rank_file(folder, rank)
    if not path.exists():
        raise CorruptError(f"{folder.name}: there is no {path.name}, the part of rank {rank}")
    tensors: dict[str, Tensor] = load_file(path)
    there = {name.removeprefix(_BUFFER) for name in tensors if name.startswith(_BUFFER)}
    if there != buffers.keys():
        raise CorruptError(f"{path.name} does not fit the network: it differs in {sorted(there ^ buffers.keys())[:8]}")
    return tensors


def _load_random_state(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["random/cpu"])
    if "random/cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random/cuda"])


def _float_buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


def _rank_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.safetensors"


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(f"{path}: {error}") from error


def _portable(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses shared storage and keeps no strides."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _like(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    return torch.empty_like(parameter).copy_(tensor)
