"""DeepSpeed behind the Engine protocol: the only module that imports it.

It runs in every configuration, one worker included, on CPU with gloo and on GPU with NCCL. What had to be found out
by running it is written where it is dealt with.
"""

import argparse
import json
import logging
import math
import os
import resource
import sys
import tempfile
import uuid
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import CorruptError, VersionError
from udt_cluster.training.protocols import Batch, LossFunction, NonFiniteLossError, StepResult
from udt_cluster.training.ranks import (
    average_buffers,
    broadcast_weights,
    gather_objects,
    join_process_group,
    mean_over_ranks,
)
from udt_cluster.training.recipe import (
    BatchPlan,
    build_optimizer,
    check_compile,
    deepspeed_config,
    plan_batches,
    uses_bf16,
)
from udt_cluster.training.snapshot import (
    check_resumable,
    load_optimizer,
    load_rank_state,
    load_weights,
    save_optimizer,
    save_rank_state,
    save_weights,
    seed_all,
)

ENGINE_FORMAT = 2
_ENGINE_FILE = "engine.json"
_ZERO_TAG = "zero"


class DeepSpeedEngine:
    """A network, its optimizer and its ranks.

    Args:
        model: The network; every rank gets rank 0's weights.
        config: The recipe.
        micro_batch_size: Samples per forward pass of one rank. Default: the recipe's, else no accumulation.
        device: This rank's device.
        seed: Seed of dropout and everything else that draws from a global generator; each rank gets its own stream.

    Raises:
        RefusedError: the recipe cannot be had on this device or with this number of ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        micro_batch_size: int | None = None,
        device: torch.device,
        seed: int,
    ) -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        check_compile(config, device)
        self.device = device
        self.rank, self.world_size = join_process_group(device)
        self.plan = plan_batches(config, world_size=self.world_size, micro_batch_size=micro_batch_size)
        self.zero_stage = config.zero_stage
        self._seed = seed
        self._bf16 = uses_bf16(config, device)
        self._channels_last = device.type == "cuda" and config.zero_stage == 0
        self._shape: torch.Size | None = None
        self._deepspeed = _initialize(self._prepare(model), config, self.plan, device=device, bf16=self._bf16)
        if self.world_size == 1 and config.zero_stage == 0:  # else every gradient is copied twice, to nobody
            self._deepspeed.enable_backward_allreduce = False
        if self._channels_last:  # before DeepSpeed's initialize it raises, at the other stages it does not work
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            self.module.compile()
        seed_all(seed, rank=self.rank)

    def _prepare(self, model: nn.Module) -> nn.Module:
        model = model.to(self.device)
        broadcast_weights(model)
        if self.device.type == "cuda" and self.world_size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return model

    @property
    def module(self) -> nn.Module:
        """The bare network."""
        module: nn.Module = self._deepspeed.module
        return module

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self._deepspeed.optimizer.param_groups[0]["lr"])

    def set_lr(self, lr: float) -> None:
        """Learning rate of the steps to come."""
        for group in self._deepspeed.optimizer.param_groups:
            group["lr"] = lr

    def step(
        self, micro_batches: Sequence[Batch], loss_function: LossFunction, flags: Sequence[bool] = ()
    ) -> StepResult:
        """One optimizer step over the micro-batches of all ranks; see :class:`protocols.Engine`."""
        assert len(micro_batches) == self.plan.accumulation, (len(micro_batches), self.plan)
        self._set_mode(training=True)
        losses: list[dict[str, Tensor]] = []
        for index, batch in enumerate(micro_batches):
            losses.append(self._forward_backward(batch, loss_function))
            if index + 1 < len(micro_batches):
                self._deepspeed.step()  # inside an accumulation it only counts
        result = self._agree(losses, micro_batches, flags)
        self._deepspeed.step()
        return result

    def _forward_backward(self, batch: Batch, loss_function: LossFunction) -> dict[str, Tensor]:
        self._shape = batch.images.shape
        losses = loss_function(self._deepspeed(self._formatted(batch.images)), batch.labels)
        self._deepspeed.backward(losses["loss"])
        return {name: value.detach() for name, value in losses.items()}

    def _agree(self, losses: list[dict[str, Tensor]], batches: Sequence[Batch], flags: Sequence[bool]) -> StepResult:
        """The means over the ranks of losses and flags, by one collective."""
        names = list(losses[0])
        table = torch.stack([torch.stack([micro[name] for name in names]) for micro in losses])
        raised = torch.tensor(flags, dtype=table.dtype, device=table.device)
        together = mean_over_ranks(torch.cat([table.mean(dim=0), raised])).tolist()
        means = dict(zip(names, together, strict=False))
        if not all(math.isfinite(mean) for mean in means.values()):
            self._raise_non_finite(means, table.isfinite().all(dim=1).tolist(), batches)
        return StepResult(losses=means, flags=tuple(share > 0 for share in together[len(names) :]))

    def _raise_non_finite(self, means: dict[str, float], finite: list[bool], batches: Sequence[Batch]) -> None:
        mine = [int(s) for batch, fine in zip(batches, finite, strict=True) if not fine for s in batch.samples]
        raise NonFiniteLossError(means, [sample for part in self.all_gather_object(mine) for sample in part])

    def predict(self, images: Tensor) -> Tensor:
        """Float32 logits (B,K,H,W) in evaluation mode, by the bare network; under ZeRO-3 its hooks still gather."""
        self._set_mode(training=False)
        with torch.no_grad(), self._autocast():
            logits: Tensor = self.module(self._formatted(images))
        return logits.float()

    def pad_forwards(self, count: int) -> None:
        """Under ZeRO-3 each forward is a collective: run ``count`` of them on zeros of the shape trained on."""
        if self.zero_stage < 3 or count <= 0:
            return
        assert self._shape is not None, "pad_forwards before the first step"
        zeros = torch.zeros(self._shape, device=self.device)
        for _ in range(count):
            self.predict(zeros)

    def _set_mode(self, *, training: bool) -> None:
        if self.module.training != training:
            self.module.train(training)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def _formatted(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    def sync_buffers(self) -> None:
        """Average batch normalisation's statistics; where SyncBatchNorm runs they are equal already."""
        if self.device.type != "cuda":
            average_buffers(self.module)

    def memory_gb(self) -> float:
        """Peak memory of this rank in 1e9 bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / 1e9

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    def all_gather_object(self, value: Any) -> list[Any]:
        """The picklable values of all ranks, by rank."""
        return gather_objects(value)

    def save(self, folder: Path) -> None:
        """Write this rank's files into a folder, which may be the rank's own or shared.

        Stage 0 writes safetensors of our own, which any number of ranks reads. Stages 1..3 leave the optimizer to
        DeepSpeed, whose files (pickles) only the same number of ranks reads; the caller vouches for them by checksum.
        """
        weights = self._full_weights()
        if self.zero_stage:
            self._deepspeed.save_checkpoint(str(folder), tag=_ZERO_TAG, save_latest=False)
            for script in folder.glob("zero_to_*.py"):  # programs have no place in a checkpoint
                script.unlink(missing_ok=True)
        # From here on nothing is collective: a rank that cannot write keeps no other waiting.
        save_rank_state(self.module, folder, rank=self.rank)
        if self.rank == 0:
            save_weights(weights, folder)
            about = {"format": ENGINE_FORMAT, "zero_stage": self.zero_stage, "world_size": self.world_size}
            (folder / _ENGINE_FILE).write_text(json.dumps(about))
            if self.zero_stage == 0:
                save_optimizer(self._deepspeed.optimizer, self.module, folder)

    def load(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote; the files of all ranks must be there.

        Raises:
            VersionError: the files are of another format, ZeRO stage or, from stage 1 on, number of ranks.
            CorruptError: they do not fit the network, or DeepSpeed found none of its own.
        """
        about = json.loads((folder / _ENGINE_FILE).read_text())
        if about["format"] != ENGINE_FORMAT:
            raise VersionError(
                f"checkpoint: engine format {about['format']}, this udt-cluster reads {ENGINE_FORMAT}; "
                "resume with the version that wrote it"
            )
        saved = about["zero_stage"], about["world_size"]
        check_resumable(folder.name, saved=saved, asked=(self.zero_stage, self.world_size))
        if self.zero_stage == 0:
            load_weights(self.module, folder)
            load_optimizer(self._deepspeed.optimizer, self.module, folder)
        else:
            self._load_zero(folder)
        load_rank_state(
            self.module, folder, rank=self.rank, saved_ranks=saved[1], ranks=self.world_size, seed=self._seed
        )

    def _load_zero(self, folder: Path) -> None:
        """DeepSpeed answers what it does not find with a warning, and would train from fresh weights."""
        files = any((folder / _ZERO_TAG).glob("*.pt"))
        path, _ = self._deepspeed.load_checkpoint(str(folder), tag=_ZERO_TAG) if files else (None, None)
        if path is None:
            raise CorruptError(f"{folder.name}: there is no DeepSpeed checkpoint of stage {self.zero_stage} in it")

    def _full_weights(self) -> dict[str, Tensor]:
        """The whole state dict on rank 0; from stage 3 it is gathered by all ranks."""
        if self.zero_stage < 3:
            return self.module.state_dict()
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.module.parameters())), torch.no_grad():
            return {name: tensor.to("cpu", copy=True) for name, tensor in self.module.state_dict().items()}

    def close(self) -> None:
        """Let go of DeepSpeed's hooks and buffers. The process group stays: whoever made it ends it."""
        self._deepspeed.destroy()


def _initialize(model: nn.Module, config: TrainConfig, plan: BatchPlan, *, device: torch.device, bf16: bool) -> Any:
    deepspeed = _import_deepspeed(device)
    engine, *_ = deepspeed.initialize(
        args=argparse.Namespace(device_rank=device.index or 0),
        model=model,
        optimizer=build_optimizer(model.parameters(), config),
        config=deepspeed_config(config, plan, bf16=bf16),
    )
    return engine


def _import_deepspeed(device: torch.device) -> Any:
    """Import it (about 17 s when cold) with its surprises disarmed, in a process that has a process group already."""
    os.environ["DS_ACCELERATOR"] = "cuda" if device.type == "cuda" else "cpu"
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))
    if "TORCH_EXTENSIONS_DIR" not in os.environ:  # a lock left in a shared one blocks every later job
        os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(tempfile.gettempdir()) / f"udt-extensions-{uuid.uuid4().hex}")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # ZeRO-3 calls a function that torch has renamed; one warning per collective would drown the log.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    if device.type != "cuda":  # else each start compiles it for minutes, and a killed start blocks the next for ever
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
