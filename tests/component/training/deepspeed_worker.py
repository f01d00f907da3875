"""One rank of a training with real DeepSpeed: `python -m tests.component.training.deepspeed_worker FOLDER SCENARIO...`.

Rank and size come from the environment, as from any launcher; what was found goes to FOLDER/SCENARIO-RANK.json.
"""

import hashlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.unit.training.fakes import MemoryEval, MemoryTrain, Remembered, TorchEngine, blobs, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location
from udt_cluster.training import DeepSpeedEngine, StorageCheckpoints, fit, seed_all
from udt_cluster.training.losses import ce

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
CPU = torch.device("cpu")
STAGES = (0, 1, 2, 3)


def recipe(**settings: Any) -> TrainConfig:
    return TrainConfig(
        **{"epochs": 3, "lr": 0.02, "global_batch_size": 8, "micro_batch_size": 2, "picture_every": 0, **settings}
    )


def engine_for(config: TrainConfig, model: nn.Module | None = None) -> DeepSpeedEngine:
    return DeepSpeedEngine(model or tiny_net(seed=RANK), config, device=CPU, seed=5)


def digest(engine: DeepSpeedEngine) -> str:
    """A hash of every parameter and buffer, in full on each rank."""
    tensors = engine._full_weights()
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()


class DiesAfter(Remembered):
    """A reporter in whose hands the process is killed."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._last = epoch

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        super().epoch(epoch, step, metrics)
        if epoch == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def train(
    config: TrainConfig, root: Path, *, reporter: Remembered | None = None, poison: int | None = None
) -> dict[str, Any]:
    """A whole fit of the small network; what a test wants to know of it."""
    engine = engine_for(config)
    data = blobs(16)
    if poison is not None:
        data.images[poison, 0, 0, 0] = math.nan
    shared = {"rank": RANK, "world_size": WORLD}
    store = Location.parse(root)
    attempt = engine.all_gather_object(StorageCheckpoints.next_attempt(store) if RANK == 0 else 0)[0]
    reporter = reporter or Remembered()
    loader = MemoryTrain(data, global_batch_size=8, micro_batch_size=2, **shared)
    warnings: list[str] = []
    result = fit(
        engine=engine,
        train=loader,
        validation=MemoryEval(blobs(10, seed=9), batch_size=2, **shared),
        reporter=reporter,
        checkpoints=StorageCheckpoints(store, run_id="r", attempt=attempt, keep=9, warn=warnings.append, **shared),
        config=config,
        num_classes=2,
        class_names=("background", "square"),
    )
    found = {
        "weights": digest(engine),
        "steps": result.steps,
        "epochs": [epoch for epoch, _, _ in reporter.epochs],
        "val_dice": [metrics["val_dice"] for _, _, metrics in reporter.epochs],
        "train_loss": [metrics["train_loss"] for _, _, metrics in reporter.epochs],
        "samples": loader.seen,
        "warnings": warnings,
    }
    engine.close()
    return found


def stages(folder: Path) -> dict[str, Any]:
    """At each stage: a whole run, and one that was cut after an epoch and resumed by fresh objects."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        config = recipe(zero_stage=stage)
        whole = train(config, folder / f"whole-{stage}")
        train(config.model_copy(update={"epochs": 1}), folder / f"cut-{stage}")
        seed_all(1000)
        found[str(stage)] = {"whole": whole, "resumed": train(config, folder / f"cut-{stage}")}
    return found


def peers(_: Path) -> dict[str, Any]:
    """DeepSpeed against plain torch on the same batches: accumulation, clipping, weight decay; and bf16."""
    found = {}
    config = recipe(optimizer="adamw", weight_decay=0.1, gradient_clipping=0.1)
    for stage in STAGES:
        ours = engine_for(config.model_copy(update={"zero_stage": stage}), plain_net())
        theirs = TorchEngine(plain_net(), config.model_copy(update={"global_batch_size": 8}))
        losses = []
        for step in range(6):
            whole = blobs(8, seed=step)
            share = whole.take(range(RANK * 8 // WORLD, (RANK + 1) * 8 // WORLD))
            mine = [share.take(range(at, at + 2)) for at in range(0, 8 // WORLD, 2)]
            every = [whole.take(range(at, at + 2)) for at in range(0, 8, 2)]
            losses.append([ours.step(mine, ce).losses["loss"], theirs.step(every, ce).losses["loss"]])
        weights = ours._full_weights()
        gaps = [(weights[name] - tensor).abs().max().item() for name, tensor in theirs.module.state_dict().items()]
        found[str(stage)] = {"losses": losses, "largest_gap": max(gaps), "lr": ours.lr}
        ours.close()
    return found


def plain_net() -> nn.Module:
    """Without batch normalisation and dropout, whose statistics are per rank."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))


def bf16(_: Path) -> dict[str, Any]:
    config = recipe(precision="bf16", epochs=8)
    engine = engine_for(config)
    dtypes: list[str] = []
    engine.module[0].register_forward_hook(lambda module, inputs, output: dtypes.append(str(output.dtype)))
    data = blobs(8)
    micro = [data.take(range(at, at + 2)) for at in range(0, 8, 2)]
    losses = [engine.step(micro, ce).losses["loss"] for _ in range(20)]
    logits = engine.predict(data.images)
    kept = {str(parameter.dtype) for parameter in engine.module.parameters()}
    return {"inside": sorted(set(dtypes)), "logits": str(logits.dtype), "weights": sorted(kept), "losses": losses}


def whole(folder: Path) -> dict[str, Any]:
    return train(recipe(epochs=4), folder / "whole")


def killed(folder: Path) -> dict[str, Any]:
    return train(recipe(epochs=4), folder / "cut", reporter=DiesAfter(2))


def resumed(folder: Path) -> dict[str, Any]:
    return train(recipe(epochs=4), folder / "cut")


def poisoned(folder: Path) -> dict[str, Any]:
    """A NaN that only one rank sees: every rank must stop, before the optimizer step."""
    return {"error": refusal(lambda: train(recipe(), folder / "poisoned", poison=11))}


def other_size(folder: Path) -> dict[str, Any]:
    """Resume what two ranks have left in a folder beside: stage 0 goes on, stage 1 is refused."""
    folder = folder.parent / "two"
    longer = recipe(epochs=4)
    refused = refusal(lambda: train(longer.model_copy(update={"zero_stage": 1}), folder / "whole-1"))
    return {"stage_0": train(longer, folder / "whole-0"), "stage_1": refused}


def wrong_folder(folder: Path) -> dict[str, Any]:
    """DeepSpeed answers an empty folder with a warning and a fresh start: ours is an error."""
    engine = engine_for(recipe(zero_stage=1))
    place = folder / "saved"
    place.mkdir()
    engine.save(place)
    for file in (place / "zero").iterdir():
        file.unlink()
    return {"error": refusal(lambda: engine.load(place))}


def refusal(action: Callable[[], Any]) -> str:
    try:
        action()
    except UdtError as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for scenario in sys.argv[2:]:
        found = globals()[scenario](folder)
        (folder / f"{scenario}-{RANK}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # the end of the interpreter now and then aborts in gloo's threads; what was found is written
