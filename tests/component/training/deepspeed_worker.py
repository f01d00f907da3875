"""One rank of a training with real DeepSpeed: `python -m tests.component.training.deepspeed_worker FOLDER SCENARIO...`.

Rank and size come from the environment, as from any launcher; what was found goes to FOLDER/SCENARIO-RANK.json.
"""

import hashlib
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.unit.training.fakes import MemoryEval, MemoryTrain, Remembered, TorchEngine, blobs, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location
from udt_cluster.training import DeepSpeedEngine, PreemptedError, StorageCheckpoints, fit, seed_all
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


Ask = Callable[[MemoryTrain], str | None]
"""What a worker is to say when it is asked at a step whether it must stop, by what its loader has given out."""


def never(_: MemoryTrain) -> str | None:
    return None


def die(step: int) -> Ask:
    """SIGKILL when a step is about to begin."""

    def ask(loader: MemoryTrain) -> str | None:
        if len(loader.seen) > step:
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    return ask


class Gone(Exception):
    """Stands for the death of all ranks."""


def vanish(step: int) -> Ask:
    """All ranks end, without a word, when a step is about to begin."""

    def ask(loader: MemoryTrain) -> str | None:
        if len(loader.seen) > step:
            raise Gone
        return None

    return ask


def preempted(step: int) -> Ask:
    """The last rank is told to stop within a step; the others are not."""
    return lambda loader: "a notice" if RANK == WORLD - 1 and len(loader.seen) >= step else None


def train(
    config: TrainConfig, root: Path, *, every_step: bool = False, ask: Ask = never, poison: int | None = None
) -> dict[str, Any]:
    """A whole fit of the small network; what a test wants to know of it."""
    if every_step:  # shorter than a job file may say
        config = config.model_copy(update={"checkpoint_every": timedelta(0)})
    engine = engine_for(config)
    data = blobs(16)
    if poison is not None:
        data.images[poison, 0, 0, 0] = math.nan
    shared = {"rank": RANK, "world_size": WORLD}
    store = Location.parse(root)
    attempt = engine.all_gather_object(StorageCheckpoints.next_attempt(store) if RANK == 0 else 0)[0]
    reporter, warnings = Remembered(), list[str]()
    loader = MemoryTrain(data, global_batch_size=8, micro_batch_size=2, **shared)
    checkpoints = StorageCheckpoints(store, run_id="r", attempt=attempt, keep=9, warn=warnings.append, **shared)
    stopped = ""
    try:
        fit(
            engine=engine,
            train=loader,
            validation=MemoryEval(blobs(10, seed=9), batch_size=2, **shared),
            reporter=reporter,
            checkpoints=checkpoints,
            config=config,
            num_classes=2,
            class_names=("background", "square"),
            interrupt=lambda: ask(loader),
        )
    except (PreemptedError, Gone) as error:
        stopped = f"{type(error).__name__}: {error}"
    checkpoints.close()
    found = {
        "weights": digest(engine),
        "stopped": stopped,
        "attempt": attempt,
        "epochs": [epoch for epoch, _, _ in reporter.epochs],
        "val_dice": [metrics["val_dice"] for _, _, metrics in reporter.epochs],
        "train_loss": [metrics["train_loss"] for _, _, metrics in reporter.epochs],
        "samples": loader.seen,
        "warnings": warnings,
    }
    engine.close()
    return found


def stages(folder: Path) -> dict[str, Any]:
    """At each stage: a whole run, and one that was stopped, and lost, within epochs and resumed by fresh objects."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        config = recipe(zero_stage=stage)
        whole = train(config, folder / f"whole-{stage}")
        first = train(config, folder / f"cut-{stage}", ask=preempted(1))
        seed_all(1000)
        second = train(config, folder / f"cut-{stage}", every_step=True, ask=vanish(2))
        if stage < 2 and RANK == 0:
            shutil.copytree(folder / f"cut-{stage}", folder / f"left-{stage}")
        seed_all(2000)
        found[str(stage)] = {"whole": whole, "lives": [first, second, train(config, folder / f"cut-{stage}")]}
    return found


def grown(folder: Path) -> dict[str, Any]:
    """Two ranks go on where one was killed within an epoch."""
    if RANK == 0:
        shutil.copytree(folder.parent / "one" / "cut", folder / "grown")
    return train(recipe(epochs=4), folder / "grown")


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
    return train(recipe(epochs=4), folder / "cut", every_step=True, ask=die(5))


def resumed(folder: Path) -> dict[str, Any]:
    return train(recipe(epochs=4), folder / "cut")


def poisoned(folder: Path) -> dict[str, Any]:
    """A NaN that only one rank sees: every rank must stop, before the optimizer step."""
    return {"error": refusal(lambda: train(recipe(), folder / "poisoned", poison=11))}


def other_size(folder: Path) -> dict[str, Any]:
    """Resume what two ranks have left within an epoch: stage 0 goes on, stage 1 is refused."""
    left = folder.parent / "two"
    refused = refusal(lambda: train(recipe(zero_stage=1), left / "left-1"))
    return {"stage_0": train(recipe(), left / "left-0"), "stage_1": refused}


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
