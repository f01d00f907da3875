"""What a UDTransNet can be built as, what it costs, what it refuses, and that compile, export and autocast take it."""

import itertools

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from udt_cluster.models.skips import SKIP_KINDS
from udt_cluster.models.udtransnet import UDTransNet
from udt_cluster.models.unet import R34UNet, UNet

SMALL = {"num_heads": 2, "num_layers": 2, "embed_dim": 16}
DRA = ("dra_channel",) * 4


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _small(**changes: object) -> UDTransNet:
    torch.manual_seed(0)
    return UDTransNet(**({"in_channels": 1, "num_classes": 2} | SMALL | changes))  # type: ignore[arg-type]


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert _count(UDTransNet(in_channels=3, num_classes=1)) == 33_898_817
        assert _count(R34UNet(in_channels=3, num_classes=1)) == 24_374_625
        assert _count(UNet(in_channels=3, num_classes=1)) == 7_767_489


@pytest.mark.parametrize(
    ("heads", "layers", "millions"), [(1, 4, 26.90), (2, 4, 28.63), (8, 4, 51.72), (4, 1, 30.25), (4, 8, 38.77)]
)
def test_sizes_of_the_heads_and_layers_sweeps(heads: int, layers: int, millions: float) -> None:
    with torch.device("meta"):
        model = UDTransNet(in_channels=3, num_classes=1, num_heads=heads, num_layers=layers, embed_dim=32 * heads)
    never_used = layers * 4 * 32 * heads  # two LayerNorms per block, which the released code counts
    assert (_count(model) + never_used) / 1e6 == pytest.approx(millions, abs=0.005)


def test_heads_and_width_are_independent() -> None:
    with torch.device("meta"):
        assert _count(_small(num_heads=1)) == _count(_small(num_heads=8))
        assert _count(_small(embed_dim=32)) > _count(_small())


COMBINATIONS = [
    *itertools.product(("dra_channel", "identity", "none"), repeat=2),
    ("dra_spatial", "none"),
    ("dra_spatial", "dra_channel"),
]


@pytest.mark.parametrize(("odd", "even"), COMBINATIONS)
def test_every_parameter_gets_a_gradient(odd: str, even: str) -> None:
    model = _small(num_layers=1 + (odd == "none"), skips=(odd, even, odd, even), head_merge="released")
    model(torch.rand(2, 1, 32, 48)).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("reader", range(4))
def test_one_reader_keeps_all_scales_as_inputs_and_no_unread_part(reader: int) -> None:
    skips = ["identity"] * 4
    skips[reader] = "dra_channel"
    model = _small(skips=skips, dropout=0.0)
    images = torch.rand(2, 1, 32, 32)
    model(images).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert model.dat is not None
    for embedding in model.dat.embeddings:
        assert embedding.position.grad.abs().max() > 0  # type: ignore[union-attr]
    shapes = [None if tokens is None else tuple(tokens.shape) for tokens in model.tokens(images)]
    assert shapes == [(2, 4, 16) if level == reader else None for level in range(4)]


def test_no_reader_no_transformer() -> None:
    model = _small(skips=("identity",) * 4).eval()
    assert model.dat is None
    assert model.tokens(torch.rand(1, 1, 16, 16)) == (None,) * 4
    assert _count(model) == _count(R34UNet(in_channels=1, num_classes=2))


def test_none_costs_nothing() -> None:
    for level, (skip, out) in enumerate(((64, 32), (64, 64), (128, 128), (256, 256))):
        skips = ["identity"] * 4
        skips[level] = "none"
        with torch.device("meta"):
            saved = _count(_small(skips=("identity",) * 4)) - _count(_small(skips=skips))
        assert saved == skip * out * 9


def test_skip_kinds_that_can_be_asked_for() -> None:
    assert list(SKIP_KINDS) == ["none", "identity", "zero", "dat", "dra_channel", "dra_spatial"]
    for model in (UNet, R34UNet):
        with pytest.raises(ValueError, match=r"skips=.*dra_channel.*each one of none, identity, zero"):
            model(in_channels=1, num_classes=1, skips=DRA)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skips": ("identity",) * 3}, "must be 4 kinds"),
        ({"skips": ("identity",) * 3 + ("cross",)}, "each one of none, identity, dat, dra_channel, dra_spatial"),
        ({"skips": ("zero",) * 4}, "each one of none, identity, dat, dra_channel, dra_spatial"),
        ({"scales": ()}, r"scales=\[\]: must be one or more of \[1, 2, 3, 4\], each once"),
        ({"scales": (1, 1)}, "each once"),
        ({"scales": (0, 1)}, r"one or more of \[1, 2, 3, 4\]"),
        ({"scales": (2, 4)}, r"levels \[1, 3\] read tokens of their scale, which is not in scales=\[2, 4\]"),
        ({"attention": ()}, r"attention=\[\]; allowed: cfa, ssa or both"),
        ({"attention": ("ssa", "ssa")}, "allowed: cfa, ssa or both"),
        ({"attention": ("cfa", "sfa")}, "allowed: cfa, ssa or both"),
        ({"mlp_ratio": 0}, "mlp_ratio=0: all must be 1 or more"),
        ({"num_heads": 3}, "num_heads must divide embed_dim"),
        ({"num_layers": 0}, "must be 1 or more"),
        ({"head_merge": "mixed"}, "allowed: standard, released"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _small(**changes)


@pytest.mark.parametrize("build", [UDTransNet, UNet, R34UNet])
def test_sizes(build: type[nn.Module]) -> None:
    model = build(in_channels=2, num_classes=3).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 2, 32, 80)).shape == (1, 3, 32, 80)
        with pytest.raises(ValueError, match=r"input is 40x64; .*multiples of 16.*48x64"):
            model(torch.rand(1, 2, 40, 64))
        with pytest.raises(ValueError, match=r"allowed: \(batch, 2, height, width\)"):
            model(torch.rand(1, 3, 32, 32))


def test_binary_has_one_logit_map_and_logits_are_not_probabilities() -> None:
    logits = _small(num_classes=1).eval()(torch.rand(2, 1, 32, 32))
    assert logits.shape == (2, 1, 32, 32)
    with torch.no_grad():
        model = _small(num_classes=1)
        model.head[-1].bias.fill_(50.0)
        assert model.eval()(torch.rand(1, 1, 32, 32)).min() > 1


def test_positions_are_learned_on_a_grid_and_interpolated() -> None:
    model = _small(reference_grid=(2, 3)).eval()
    assert model.dat is not None
    embedding = model.dat.embeddings[0]
    with torch.no_grad():
        embedding.position.copy_(torch.arange(6.0).reshape(1, 6, 1).expand(1, 6, 16))  # type: ignore[union-attr, operator]
        embedding.patch.weight.zero_()  # type: ignore[union-attr, operator]
        embedding.patch.bias.zero_()  # type: ignore[union-attr, operator]
        same = embedding(torch.rand(1, 64, 32, 48))
        wider = embedding(torch.rand(1, 64, 32, 96))
    assert same[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert wider[0, :6, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]


def test_dropout_acts_in_training_only() -> None:
    model, images = _small(dropout=0.5), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), model(images))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        assert not torch.equal(model.train()(images), model(images))


def test_bfloat16_autocast_on_the_cpu() -> None:
    model, images = _small().train(), torch.rand(2, 1, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
        loss = logits.float().square().mean()
    loss.backward()
    assert logits.dtype is torch.bfloat16
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(images).float()
    with torch.no_grad():
        exact = model(images)
    assert (rough - exact).abs().max() < 0.1 * exact.std() + 0.02


@pytest.mark.usefixtures("quiet_tracing")
def test_training_compiles_without_a_graph_break() -> None:
    model, images = _small(num_layers=1, dropout=0.1).train(), torch.rand(2, 1, 32, 32)
    logits = torch.compile(model, backend="eager", fullgraph=True)(images)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.usefixtures("quiet_tracing")
def test_exports_with_dynamic_batch_height_and_width() -> None:
    """Sides from 32 pixels on: a grid of one token has another layout, and export would bind the program to it."""
    skips = ("dra_spatial", "dat", "none", "dra_channel")
    model = _small(skips=skips, scales=(1, 2, 4), attention=("ssa", "cfa"), num_layers=1).eval()
    rows, columns = Dim("rows", min=2, max=64), Dim("columns", min=2, max=64)
    dynamic = {0: Dim("batch", min=1, max=64), 2: 16 * rows, 3: 16 * columns}
    program = export(model, (torch.rand(2, 1, 32, 48),), dynamic_shapes=(dynamic,), strict=False).module()
    for shape in ((2, 1, 32, 48), (1, 1, 64, 32), (3, 1, 32, 80)):
        images = torch.rand(shape)
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-5)
