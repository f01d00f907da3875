"""Resizing for the network and back: against Pillow, against brute force, and as an exported graph."""

import numpy as np
import pytest
import torch
from PIL import Image

from udt_cluster.data.geometry import padded_size, resize_image, resize_label, restore

SIZES = [(40, 60), (60, 40), (32, 32), (7, 90), (129, 31)]


@pytest.mark.parametrize("native", SIZES)
def test_stretch_agrees_with_pillow(native: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(native, dtype=np.float32)
    ours = resize_image(torch.from_numpy(image)[None], (32, 48), "stretch")[0].numpy()
    theirs = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_shrinking_is_filtered_and_growing_is_plain_bilinear() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    assert resize_image(stripes, (16, 16), "stretch").sub(0.5).abs().max() < 0.1
    grown = resize_image(stripes, (128, 128), "stretch")
    plain = torch.nn.functional.interpolate(stripes, size=(128, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(grown, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("native", SIZES)
@pytest.mark.parametrize("mode", ["stretch", "pad"])
def test_label_takes_the_nearest_pixel_centre_and_invents_no_value(native: tuple[int, int], mode: str) -> None:
    label = torch.from_numpy(np.random.default_rng(1).integers(0, 4, native, dtype=np.uint8) * 60)
    whole = torch.zeros(*padded_size(*native, (32, 48)), dtype=torch.uint8) if mode == "pad" else label
    whole[: native[0], : native[1]] = label
    nearest = torch.nn.functional.interpolate(whole[None, None], size=(32, 48), mode="nearest-exact")[0, 0]
    small = resize_label(label, (32, 48), mode)
    assert small.dtype == torch.uint8
    assert set(small.unique().tolist()) <= {0, 60, 120, 180}
    assert (small != nearest).float().mean() < 0.02, "at most ties of equal distance differ"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16])
def test_integers_come_back_rounded_in_their_own_type(dtype: torch.dtype) -> None:
    values = torch.tensor([[[0, 255], [100, 101]]]).to(dtype)
    small = resize_image(values, (16, 16), "stretch")
    exact = resize_image(values.to(torch.float32), (16, 16), "stretch")
    assert small.dtype == dtype
    assert torch.equal(small.to(torch.float32), exact.round())
    assert resize_image(values.to(torch.float64), (16, 16), "stretch").dtype == torch.float32


@pytest.mark.parametrize("native", SIZES)
def test_pad_keeps_shapes_and_fills_with_zeros(native: tuple[int, int]) -> None:
    height, width = padded_size(*native, (32, 48))
    assert height >= native[0]
    assert width >= native[1]
    assert min(height - native[0], width - native[1]) == 0
    assert abs(height * 48 - width * 32) <= 48, "the aspect ratio to within a pixel"
    full = resize_image(torch.ones(1, *native), (32, 48), "pad")[0]
    rows, columns = native[0] * 32 / height, native[1] * 48 / width
    assert torch.all(full[: int(rows) - 1, : int(columns) - 1] > 0.99)
    assert torch.all(full[int(rows) + 2 :] == 0)
    assert torch.all(full[:, int(columns) + 2 :] == 0)


@pytest.mark.parametrize("mode", ["stretch", "pad"])
@pytest.mark.parametrize("native", SIZES)
def test_restore_undoes_resize(native: tuple[int, int], mode: str) -> None:
    y, x = torch.meshgrid(torch.arange(native[0]) / native[0], torch.arange(native[1]) / native[1], indexing="ij")
    smooth = torch.stack([torch.sin(3 * y) + x, torch.cos(2 * x) * y])[None]
    back = restore(resize_image(smooth, (96, 144), mode), native, mode)
    assert back.shape == smooth.shape
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert (back - smooth)[inner].abs().max() < 0.06


def test_labels_and_images_stay_on_top_of_each_other() -> None:
    image = torch.zeros(1, 90, 70)
    image[:, 30:50, 20:45] = 200
    small = resize_image(image, (48, 48), "pad")[0] > 100
    label = resize_label((image[0] > 0).to(torch.uint8), (48, 48), "pad") > 0
    assert (small != label).sum() <= 4


class RoundTrip(torch.nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        x = x_BHWC.permute(0, 3, 1, 2)
        small = resize_image(x, (64, 48), self.mode).to(torch.float32)
        return restore(small, (x.shape[-2], x.shape[-1]), self.mode).argmax(1)


@pytest.mark.parametrize("mode", ["stretch", "pad"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_exports_with_heights_and_widths_that_are_not_known_yet(mode: str) -> None:
    side = {"min": 2, "max": 4096}
    dynamic = {0: torch.export.Dim("b"), 1: torch.export.Dim("h", **side), 2: torch.export.Dim("w", **side)}
    example = torch.randint(0, 255, (2, 100, 80, 3), dtype=torch.uint8)
    program = torch.export.export(RoundTrip(mode), (example,), dynamic_shapes={"x_BHWC": dynamic})
    for shape in [(1, 50, 300, 3), (3, 122, 75, 3), (2, 64, 48, 3), (1, 2, 2, 3), (1, 128, 96, 3)]:
        x = torch.randint(0, 255, shape, dtype=torch.uint8)
        assert torch.equal(program.module()(x), RoundTrip(mode)(x)), shape
