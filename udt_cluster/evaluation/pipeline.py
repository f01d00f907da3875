"""From raw numbers to a mask in one module: what is exported, what `predict` runs, and what scoring runs in two halves.

There is one such path on purpose. A model whose export, Python class and score each resize in their own way gives three
different masks for one image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from udt_cluster.data import geometry
from udt_cluster.evaluation.spec import ModelSpec

RAW_DIMENSIONS = ("batch", "height", "width", "channel")


class RawToMask(nn.Module):
    """Raw images (B, H, W, C) of any H and W to class indices (B, H, W) uint8.

    Permute, resize to the network's size, round where the training images were whole numbers, add neighbouring slices
    as channels where the model has them, normalise, mean of the members' probabilities, restore to H and W, then the
    most probable class (a single foreground class: above 0.5).

    For a model with neighbouring slices the batch is one volume: its slices in their order, all of them.

    Args:
        spec: What to do with the numbers.
        members: Networks, (B, C, h, w) to logits (B, K, h, w); K is 1 for two classes, else the number of classes.
    """

    def __init__(self, spec: ModelSpec, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._size = spec.size
        self._resize = spec.resize
        self._rounds = spec.is_integer
        self._context_slices = spec.context_slices
        self._normalization = spec.normalization

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Masks (B, H, W) uint8 of images of any real dtype."""
        native_size = (images_BHWC.shape[1], images_BHWC.shape[2])
        return self.masks(self.probabilities(self.inputs(self.samples(images_BHWC))), native_size)

    def samples(self, images_BHWC: Tensor) -> Tensor:
        """Images at the network's size, (B, C, h, w) float32, with the values that a training store holds."""
        x_BCHW = images_BHWC.to(torch.float32).permute(0, 3, 1, 2).contiguous()
        x_BChw = geometry.resize_image(x_BCHW, self._size, self._resize)
        return x_BChw.round() if self._rounds else x_BChw

    def inputs(self, samples_BChw: Tensor) -> Tensor:
        """Samples with their neighbours' channels, (B, in_channels, h, w): the samples themselves without context."""
        return geometry.with_neighbours(samples_BChw, self._context_slices)

    def probabilities(self, inputs_BChw: Tensor) -> Tensor:
        """Mean of the members' probabilities, (B, K, h, w), of inputs that are not normalised yet."""
        inputs = self._normalization(inputs_BChw)
        total = as_probabilities(self.members[0](inputs))
        for member in list(self.members)[1:]:
            total = total + as_probabilities(member(inputs))
        return total / len(self.members)

    def restore(self, probabilities_BKhw: Tensor, native_size: tuple[int, int]) -> Tensor:
        """Probabilities at the image's own size, (B, K, H, W)."""
        return geometry.restore(probabilities_BKhw, native_size, self._resize)

    def masks(self, probabilities_BKhw: Tensor, native_size: tuple[int, int]) -> Tensor:
        """Class indices (B, H, W) uint8 at the image's own size."""
        p_BKHW = self.restore(probabilities_BKhw, native_size)
        hard = p_BKHW[:, 0] > 0.5 if p_BKHW.shape[1] == 1 else p_BKHW.argmax(dim=1)
        return hard.to(torch.uint8)


def as_probabilities(logits_BKhw: Tensor) -> Tensor:
    """Sigmoid of a single map, softmax over several: (B, K, h, w) float32."""
    logits = logits_BKhw.to(torch.float32)
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
