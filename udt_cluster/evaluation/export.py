"""The model as a graph that needs torch and nothing of ours: raw (B, H, W, C) float32 in, masks (B, H, W) uint8 out.

With neighbouring slices as channels the graph takes the slices of one volume, in order, and finds neighbours itself.

Every dimension is asked for as `Dim.DYNAMIC`: `Dim.AUTO`, which MLflow's `pt2` flavour uses, freezes without a word
whatever it cannot keep dynamic.
"""

import copy

import torch
from torch.export import Dim, ExportedProgram, export

from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.pipeline import RawToMask

EXAMPLE_BATCH = 2
"""Sides and batch of an example are none of 0 and 1, which `torch.export` would take for constants."""


def export_module(model: SegmentationModel) -> RawToMask:
    """The module to export: (B, H, W, C) to (B, H, W) uint8, in evaluation mode, without gradients.

    On the CPU always: a loaded graph cannot move its weights to another device.
    """
    return model.pipeline if model.device.type == "cpu" else copy.deepcopy(model.pipeline).cpu()


def export_example(model: SegmentationModel) -> torch.Tensor:
    """Raw images (2, H, W, C) float32 to trace with; H and W differ from each other and from the network's size."""
    longest = max(model.spec.size)
    return torch.zeros(EXAMPLE_BATCH, longest + 8, longest + 24, model.spec.image_channels)


def exported_program(model: SegmentationModel) -> ExportedProgram:
    """Trace the model for any number of images of any height and width.

    Raises:
        RuntimeError: a dimension would have been frozen: a fault of the network, not of the data.
    """
    dynamic = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    return export(export_module(model), (export_example(model),), dynamic_shapes=(dynamic,), strict=False)
