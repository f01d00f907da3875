"""What a model version consists of: an MLflow model that needs neither this package nor a pickle, and our own files.

The folder is a `pytorch` model of MLflow in its `pt2` format (https://mlflow.org/docs/latest/ml/deep-learning/pytorch/):
the exported program with the weights as plain tensors. MLflow checks it record by record before it loads it where
`MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`. Code in an artifact (`python_model="script.py"`) would run at every load.
"""

import hashlib
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.pytorch
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

if TYPE_CHECKING:
    import torch

OWN_FOLDER = "udt"
_REQUIREMENTS = ("mlflow", "numpy", "torch")


def write_model(
    folder: Path,
    *,
    program: "torch.export.ExportedProgram",
    example: np.ndarray[Any, Any],
    own_files: Path,
    model_id: str,
    run_id: str,
) -> None:
    """Write a model folder for MLflow.

    Args:
        folder: Where; must not exist.
        program: Takes (B, H, W, C) numbers, returns (B, H, W) integers; B, H and W are dynamic.
        example: (B, H, W, C), float32, B >= 2; kept beside the model as its input example.
        own_files: Our own form of the model (spec.json and safetensors); becomes the folder `udt`.
        model_id: MLflow's id of the logged model.
        run_id: The run that made it.
    """
    import torch

    output = program.module()(torch.from_numpy(example)).numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=UserWarning
        )  # MLflow about type hints of its own, when it is imported
        mlflow.pytorch.save_model(
            _stand_in(),
            str(folder),
            signature=_signature(example, output),
            input_example=example,
            serialization_format="pt2",
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
        )
    # MLflow would export the network once more, for minutes and without our dynamic shapes.
    torch.export.save(program, folder / "data" / "model.pt2")
    shutil.copytree(own_files, folder / OWN_FOLDER)
    _complete(folder, model_id, run_id)


def checksum(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a folder, 64 hex digits."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _signature(example: np.ndarray[Any, Any], output: np.ndarray[Any, Any]) -> ModelSignature:
    inputs = TensorSpec(example.dtype, (-1, -1, -1, example.shape[-1]))
    return ModelSignature(inputs=Schema([inputs]), outputs=Schema([TensorSpec(output.dtype, (-1,) * output.ndim)]))


def _stand_in() -> "torch.nn.Module":
    import torch

    class StandIn(torch.nn.Module):
        """Exported in a moment, and replaced."""

        def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
            return x_BHWC.sum(dim=-1)

    return StandIn()


def _complete(folder: Path, model_id: str, run_id: str) -> None:
    """Say in MLmodel whose it is, and that it runs on the CPU.

    The program's weights lie there, and MLflow's default, the GPU where there is one, ends in an error.
    """
    model = Model.load(str(folder))
    model.model_id = model_id
    model.run_id = run_id
    model.flavors["python_function"]["config"] = {"device": "cpu"}
    model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    model.save(str(folder / "MLmodel"))
