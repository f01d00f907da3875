"""Each exact rewrite, and the whole network, against a plain transcription of the equations, in float64."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.models.plain_udtransnet import PlainUDTransNet, normalised, randomise
from udt_cluster.models import tiled
from udt_cluster.models.attention import normalised_attention
from udt_cluster.models.dropout import Dropout, dropout_mask
from udt_cluster.models.layers import PatchConv2d
from udt_cluster.models.recalibration import gate_by_patch, repeated_batch_norm
from udt_cluster.models.released import from_released, to_released
from udt_cluster.models.udtransnet import UDTransNet

SIZE = 32  # a grid of 2x2 tokens


def _pair(*, heads: int, layers: int, width: int, kind: str, merge: str) -> tuple[PlainUDTransNet, UDTransNet]:
    """Both networks with the same random weights, in float64."""
    plain = PlainUDTransNet(
        in_channels=2,
        num_classes=3,
        num_heads=heads,
        num_layers=layers,
        embed_dim=width,
        kind=kind,
        head_merge=merge,
        dropout=0.0,
        tokens=(SIZE // 16) ** 2,
    )
    with torch.no_grad():
        randomise(plain)
    ours = UDTransNet(
        in_channels=2,
        num_classes=3,
        num_heads=heads,
        num_layers=layers,
        embed_dim=width,
        skips=(f"dra_{kind}",) * 4,
        head_merge=merge,  # type: ignore[arg-type]
        dropout=0.0,
        reference_grid=(SIZE // 16, SIZE // 16),
    )
    weights = from_released(plain.state_dict(), architecture="udtransnet", num_heads=heads, dra=kind)  # type: ignore[arg-type]
    ours.load_state_dict(weights.state_dict())
    return plain.double(), ours.double()


def _gradients(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = model(images)
    logits.square().mean().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("heads", "layers", "width", "kind", "merge", "train"),
    [
        (4, 2, 32, "channel", "released", True),
        (2, 1, 48, "spatial", "standard", False),
        (1, 1, 20, "spatial", "released", True),
    ],
)
def test_network_gradients_and_statistics_are_the_plain_ones(
    heads: int, layers: int, width: int, kind: str, merge: str, train: bool
) -> None:
    plain, ours = _pair(heads=heads, layers=layers, width=width, kind=kind, merge=merge)
    plain.train(train)
    ours.train(train)
    images = torch.rand(2, 2, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, expected_gradients = _gradients(plain, images)
    logits, gradients = _gradients(ours, images)
    torch.testing.assert_close(logits, expected, rtol=1e-8, atol=1e-9)
    translated = to_released(ours, gradients)
    assert translated.keys() == expected_gradients.keys()
    for name, gradient in translated.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-6, atol=1e-9, msg=name)
    state = to_released(ours)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(state[name], buffer, rtol=1e-9, atol=1e-12, msg=name)


def test_head_merges_differ_with_heads_and_agree_without() -> None:
    images = torch.rand(1, 2, SIZE, SIZE, dtype=torch.float64)
    for heads, same in ((4, False), (1, True)):
        _, released = _pair(heads=heads, layers=1, width=32, kind="channel", merge="released")
        _, standard = _pair(heads=heads, layers=1, width=32, kind="channel", merge="standard")
        assert torch.allclose(released.eval()(images), standard.eval()(images)) is same


def _attention_inputs(dtype: torch.dtype, offset: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(2, 3, 4, 9, 8, generator=generator, dtype=torch.float64)
    k, v = (torch.randn(2, 3, 36, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    q, k, v = ((tensor).to(dtype).requires_grad_() for tensor in (q + offset, k + offset, v))
    return q, k, v


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | float = 1.0) -> Tensor:
    maps = torch.stack([normalised(q[:, :, group] @ k.mT) for group in range(q.shape[2])], dim=2)
    return (maps * keep) @ v[:, :, None]


def _compare(ours: Tensor, plain: Tensor, inputs: tuple[Tensor, ...], tolerance: float) -> None:
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    probe = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(ours.dtype)
    for a, b in zip(torch.autograd.grad(ours, inputs, probe), torch.autograd.grad(plain, inputs, probe), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_attention_without_a_map_is_the_plain_one() -> None:
    inputs = _attention_inputs(torch.float64)
    _compare(normalised_attention(*inputs), _plain_attention(*inputs), inputs, 1e-10)


def test_attention_scale_does_not_cancel_in_float32() -> None:
    q, k, v = _attention_inputs(torch.float32, offset=100.0)
    exact = _plain_attention(q.double(), k.double(), v.double())
    error = (normalised_attention(q, k, v) - exact).abs().max()
    assert error < 1e-3
    assert error < (_plain_attention(q, k, v) - exact).abs().max()


@pytest.mark.parametrize("tile", [1, 100, 700, 2**18])
def test_attention_with_dropout_is_the_plain_one_under_the_same_mask(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "TILE", tile)  # a row, some rows, some rows of a map that is cut, several maps
    inputs = _attention_inputs(torch.float64)
    torch.manual_seed(4)
    keep, kept = dropout_mask((2, 3, 36, 36), 0.3)
    torch.manual_seed(4)
    ours = normalised_attention(*inputs, dropout=0.3)
    _compare(ours, _plain_attention(*inputs, keep.unflatten(2, (4, 9)).double() / kept), inputs, 1e-10)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_dropout_mask_keeps_what_it_says(rate: float) -> None:
    torch.manual_seed(5)
    keep, kept = dropout_mask((7, 100_001), rate)
    assert keep.shape == (7, 100_001)
    assert kept == pytest.approx(1 - rate, abs=1e-5)
    assert keep.float().mean().item() == pytest.approx(kept, abs=4e-3 * kept + 1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_map_is_kept_for_the_backward_pass(dropout: float) -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        normalised_attention(*_attention_inputs(torch.float32), dropout=dropout)
    one_map = 2 * 3 * 9 * 36
    assert kept
    assert all(tensor.dtype is torch.bool for tensor in kept if tensor.numel() >= one_map)


def test_batch_norm_of_repeated_pixels_needs_no_repetition() -> None:
    ours, plain = nn.BatchNorm2d(4).double(), nn.BatchNorm2d(4).double()
    grid = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    for _ in range(3):  # running statistics gather over steps
        repeated = plain(F.interpolate(grid, scale_factor=8, mode="nearest"))
        torch.testing.assert_close(repeated_batch_norm(ours, grid, repeats=64), repeated[:, :, ::8, ::8])
        grid = grid * 1.5 + 1
    assert plain.running_mean is not None
    assert plain.running_var is not None
    torch.testing.assert_close(ours.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.running_var, plain.running_var, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(grid), repeated_batch_norm(plain.eval(), grid, repeats=64))


def test_gating_by_patch_is_gating_by_the_upsampled_grid() -> None:
    grid, gate = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 16, 20)
    expected = gate * F.interpolate(grid, scale_factor=4, mode="nearest")
    torch.testing.assert_close(gate_by_patch(gate, grid, pixels_per_side=4), expected, rtol=0, atol=0)


def test_large_patches_are_convolved_by_a_matrix_product() -> None:
    conv = PatchConv2d(3, 4, 16).double()
    images = torch.rand(2, 3, 32, 48, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(images, conv.weight, conv.bias, stride=16)
    assert conv.bias is not None
    _compare(conv(images), plain, (images, conv.weight, conv.bias), 1e-12)


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(8)
    dropout, ones = Dropout(0.25), torch.ones(1000, 100, requires_grad=True)
    dropped = dropout(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3], abs=1e-4)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped)
    assert torch.equal(dropout.eval()(ones), ones)
    assert not Dropout(1.0)(ones).any()
