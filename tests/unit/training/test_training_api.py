"""The public names of the room, and what importing it costs."""

import subprocess
import sys

import udt_cluster.training as training


def test_all_is_what_is_public() -> None:
    assert sorted(training.__all__) == training.__all__
    assert all(hasattr(training, name) for name in training.__all__)


def test_importing_training_imports_neither_deepspeed_nor_ray_nor_mlflow() -> None:
    program = (
        "import sys, udt_cluster.training;"
        "sys.exit(', '.join({'deepspeed', 'ray', 'mlflow', 's3fs', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
