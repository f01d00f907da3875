"""Say which device torch will use; exit 2 when a GPU is there and torch cannot see it: accelerator.py cpu|cuda|auto."""

import shutil
import subprocess
import sys


def gpus_of_the_machine() -> list[str]:
    """Names of the NVIDIA GPUs that the driver reports; empty without a driver."""
    if not shutil.which("nvidia-smi"):
        return []
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [line for line in answer.stdout.splitlines() if line.startswith("GPU ")]


def verdict(wanted: str, machine: list[str], *, version: str, visible: int) -> tuple[int, str]:
    """Exit code and message, from what the machine has and what torch sees.

    Args:
        wanted: `cpu`, `cuda` or `auto`.
        machine: GPUs that the driver reports.
        version: torch's version.
        visible: GPUs that torch sees.
    """
    if wanted not in {"cpu", "cuda", "auto"}:
        return 2, f"ACCEL={wanted}: allowed are cpu, cuda, auto"
    if wanted == "cpu":
        return 0, f"device: cpu (torch {version})"
    if visible:
        return 0, f"device: cuda, {visible} GPU{'s' if visible > 1 else ''} (torch {version})"
    if machine:
        return 2, (
            f"device: the machine has {machine[0]}, and torch {version} does not see it. A CPU build of torch, or a "
            "driver older than torch's CUDA? Reinstall torch, or say ACCEL=cpu"
        )
    if wanted == "cuda":
        return 2, f"device: ACCEL=cuda, and the driver reports no GPU (torch {version})"
    return 0, f"device: cpu (torch {version}, no GPU found)"


def main() -> int:
    """Print the verdict."""
    import torch

    wanted = sys.argv[1] if len(sys.argv) > 1 else "auto"
    code, message = verdict(wanted, gpus_of_the_machine(), version=torch.__version__, visible=torch.cuda.device_count())
    sys.stderr.write(f"setup: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
