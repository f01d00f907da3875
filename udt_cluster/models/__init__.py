"""The networks: UDTransNet and its two baselines, built from a job or from the authors' released weights."""

from udt_cluster.models.build import build_model, output_channels
from udt_cluster.models.costs import Cost, cost
from udt_cluster.models.pretrained import load_encoder_weights
from udt_cluster.models.released import from_released, to_released
from udt_cluster.models.udtransnet import UDTransNet
from udt_cluster.models.unet import R34UNet, UNet

__all__ = [
    "Cost",
    "R34UNet",
    "UDTransNet",
    "UNet",
    "build_model",
    "cost",
    "from_released",
    "load_encoder_weights",
    "output_channels",
    "to_released",
]
