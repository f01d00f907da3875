"""The model as a graph that needs torch and nothing of ours: raw (B, H, W, C) float32 in, masks (B, H, W) uint8 out.

What tracking registers is the same module: MLflow's `pt2` flavour calls `torch.export` itself, with `Dim.AUTO` for each
-1 of the signature, and `AUTO` freezes without a word whatever it cannot keep dynamic. So :func:`exported_program` asks
for `Dim.DYNAMIC`, which raises instead; a module that passes here stays dynamic there.
"""

import torch
from torch.export import Dim, ExportedProgram, export

from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.pipeline import RawToMask

EXAMPLE_BATCH = 2
"""Sides and batch of an example are none of 0 and 1, which `torch.export` would take for constants."""


def export_module(model: SegmentationModel) -> RawToMask:
    """The module to export: (B, H, W, C) to (B, H, W) uint8, in evaluation mode, without gradients, on the CPU.

    The weights are the model's own, so that nothing is copied; for a model on a GPU they are moved.
    """
    return model.pipeline.cpu() if model.device.type == "cpu" else model.to("cpu").pipeline


def export_example(model: SegmentationModel) -> torch.Tensor:
    """Raw images (2, H, W, C) float32 to trace with; H and W differ from each other and from the network's size."""
    height, width = (side + 16 * (position + 1) for position, side in enumerate(model.spec.size))
    return torch.zeros(EXAMPLE_BATCH, height, width, model.spec.in_channels)


def exported_program(model: SegmentationModel) -> ExportedProgram:
    """Trace the model for any number of images of any height and width.

    Raises:
        RuntimeError: a dimension would have been frozen: a fault of the network, not of the data.
    """
    dynamic = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    return export(export_module(model), (export_example(model),), dynamic_shapes=(dynamic,), strict=False)
