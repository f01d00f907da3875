"""Step time of the engine inside a Ray Train worker, against a bare torch loop in the same worker.

    python tests/bench/bench_step_ray.py --architecture unet --size 128 --batch 4 --steps 20

As bench_step.py, but DeepSpeed and the bare loop take their turns in a real worker of a real (private) Ray cluster:
what Ray costs a step (its threads, its nice level) falls on both; what the engine adds is the ratio.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def worker(settings: dict[str, Any]) -> None:
    """Measure, and write down the medians: Ray keeps no metrics of a run without checkpoints."""
    import torch
    from bench_step import step_times

    times = step_times(
        architecture=settings["architecture"],
        size=settings["size"],
        batch=settings["batch"],
        steps=settings["steps"],
        device=torch.device("cpu"),
    )
    found = {
        "ratio": times.ratio,
        "cpu_ratio": times.cpu_ratio,
        "engine": statistics.median(step.wall for step in times.engine),
        "bare": statistics.median(step.wall for step in times.bare),
        "threads": torch.get_num_threads(),
    }
    Path(settings["answer"]).write_text(json.dumps(found))


def main() -> None:
    """Start a private Ray, measure in one worker, print one row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--architecture", default="unet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{HERE}{os.pathsep}{HERE.parents[1]}"
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    scratch = Path(tempfile.mkdtemp())
    trainer = TorchTrainer(
        worker,
        train_loop_config={**vars(options), "answer": str(scratch / "answer.json")},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="bench", storage_path=str(scratch)),
        torch_config=TorchConfig(backend="gloo"),
    )
    trainer.fit()
    ray.shutdown()
    found = json.loads((scratch / "answer.json").read_text())
    shutil.rmtree(scratch)
    print("| model, batch | threads | engine under Ray | bare loop | ratio | CPU ratio |\n|---|---|---|---|---|---|")
    shape = f"{options.architecture}, {options.batch}x3x{options.size}x{options.size}"
    print(
        f"| {shape} | {found['threads']} | {1000 * found['engine']:.0f} ms | {1000 * found['bare']:.0f} ms "
        f"| {found['ratio']:.3f} | {found['cpu_ratio']:.3f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
