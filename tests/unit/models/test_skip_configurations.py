"""Whole networks in every kind of configuration: they train, cost nothing for what is left out, and export."""

import itertools
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from tests.unit.config.model_settings import MODELS
from tests.unit.models.configurations import GROUPS, Settings
from udt_cluster.config.job import ModelConfig
from udt_cluster.models import build_model, cost
from udt_cluster.models.layers import UpStage
from udt_cluster.models.recalibration import TokenSkip
from udt_cluster.models.skips import SKIP_KINDS, SkipSite, build_skip

SMALL: Settings = {"num_heads": 2, "num_layers": 1, "embed_dim": 16}
LEVELS = (1, 2, 3, 4)
# Every kind at every level, under every attention, with scales that nobody reads and scales that are left out.
MIXED: list[Settings] = [
    {"skips": ["none", "identity", "dat", "dra_channel"], "attention": ["cfa"]},
    {"skips": ["identity", "dat", "dra_channel", "dra_spatial"], "attention": ["ssa"], "num_layers": 2},
    {"skips": ["dat", "dra_channel", "dra_spatial", "none"], "attention": ["cfa", "ssa"], "scales": [1, 2, 3]},
    {"skips": ["dra_channel", "dra_spatial", "none", "identity"], "attention": ["ssa", "cfa"], "mlp_ratio": 1},
    {"skips": ["dra_spatial", "none", "identity", "dat"], "attention": ["cfa"], "scales": [1, 4]},
    {"skips": ["none", "none", "dat", "none"], "attention": ["ssa"], "scales": [2, 3], "head_merge": "released"},
    {"skips": ["none"] * 4},
    *({"architecture": "unet", "skips": [kind] * 4} for kind in ("none", "zero")),
    *({"architecture": name, "skips": ["zero", "identity", "none", "zero"]} for name in ("unet", "r34_unet")),
]
ZEROED: Settings = {"architecture": "unet", "skips": ["zero", "identity", "none", "zero"]}


def _small(settings: Settings) -> ModelConfig:
    is_baseline = settings.get("architecture", "udtransnet") != "udtransnet"
    return ModelConfig(**settings if is_baseline else settings | SMALL | _given(settings))


def _given(settings: Settings) -> Settings:
    """More than one layer only where it is asked for here."""
    return {"num_layers": 2} if settings.get("num_layers", 1) > 1 else {}


def _id(settings: Settings) -> str:
    return "-".join(str(value).translate(str.maketrans("", "", "[]', ")) for value in settings.values())


def _trained(config: ModelConfig) -> None:
    """Two steps: every parameter gets a gradient, and the second step begins somewhere else."""
    torch.manual_seed(0)
    model = build_model(config, in_channels=1, num_classes=2).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, wanted, losses = torch.rand(2, 1, 32, 32), torch.randint(0, 2, (2, 32, 32)), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), wanted)
        loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
        optimizer.step()
        losses.append(loss.item())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert losses[1] != losses[0]


@pytest.mark.parametrize("settings", MIXED, ids=_id)
def test_trains_two_steps_with_a_gradient_for_every_parameter(settings: Settings) -> None:
    _trained(_small(settings))


@pytest.mark.slow
@pytest.mark.parametrize("settings", list(itertools.chain(*GROUPS.values())), ids=_id)
def test_every_configuration_of_the_tables_trains_two_steps(settings: Settings) -> None:
    _trained(_small(settings))


def test_every_kind_is_trained_at_every_level() -> None:
    seen = {(level, kind) for settings in MIXED[:6] for level, kind in zip(LEVELS, settings["skips"], strict=True)}
    assert seen == set(itertools.product(LEVELS, set(SKIP_KINDS) - {"zero"}))


@examples(max_examples=8, deadline=None)
@given(model=MODELS)
def test_whatever_the_config_takes_is_built(model: dict[str, Any]) -> None:
    try:
        config = ModelConfig(**{"embed_dim": 16, "num_layers": 1, **model})
    except ValueError:
        return
    found = cost(config, in_channels=1, num_classes=1, size=(32, 32))
    least = _least(config.architecture)
    if set(config.skip_kinds) == {"none"}:
        assert (found.parameters, found.macs) == least
    else:
        assert found.parameters > least[0]
        assert found.macs > least[1]


@cache
def _least(architecture: str) -> tuple[int, int]:
    return _cost(architecture=architecture, skips=["none"] * 4)


def _cost(**settings: object) -> tuple[int, int]:
    found = cost(ModelConfig(**settings), in_channels=1, num_classes=1, size=(32, 32))  # type: ignore[arg-type]
    return found.parameters, found.macs


@pytest.mark.parametrize("architecture", ["unet", "r34_unet", "udtransnet"])
def test_a_level_without_a_skip_costs_nothing(architecture: str) -> None:
    """Neither for the skip nor for its share of the conv block: 3x3 weights from its channels to the output's."""
    widths = (32, 64, 128, 256) if architecture == "unet" else (64, 64, 128, 256)
    whole = _cost(architecture=architecture, skips=["identity"] * 4)
    for level, skip, out in zip(LEVELS, widths, (32, 64, 128, 256), strict=True):
        skips = ["none" if here == level else "identity" for here in LEVELS]
        parameters, macs = _cost(architecture=architecture, skips=skips)
        pixels = (32 >> (level - 1)) ** 2
        assert whole[0] - parameters == 9 * skip * out
        assert whole[1] - macs == 9 * skip * out * pixels


def test_a_scale_that_is_left_out_costs_nothing() -> None:
    """One token level and one scale: no other level's features are embedded, whatever their own skip is."""
    rest = {"num_heads": 1, "num_layers": 1, "embed_dim": 8, "attention": ["ssa"]}
    one = _cost(skips=["none", "none", "none", "dat"], scales=[4], **rest)
    two = _cost(skips=["none", "none", "none", "dat"], scales=[3, 4], **rest)
    none = _cost(skips=["none"] * 4)
    embedding, position, norm = 8 * 128 * 16 + 8, 196 * 8, 2 * 8
    assert two[0] - one[0] == embedding + position + norm
    transformer = 8 * 256 * 4 + 8 + position + (2 + 2) * 64 + 2 * 2 * 64 + 3 * 8 + 3 * norm
    skip = 8 * 256 + 256 + 2 * 256 + 9 * 256 * 256
    assert one[0] - none[0] == transformer + skip


def test_zero_has_all_parameters_and_no_skip() -> None:
    for architecture in ("unet", "r34_unet"):
        assert _cost(architecture=architecture, skips=["zero"] * 4) == _cost(architecture=architecture)
    torch.manual_seed(1)
    config = ModelConfig(architecture="unet")
    whole = build_model(config, in_channels=1, num_classes=1).eval()
    skips = ("zero", "identity", "zero", "identity")
    zero = build_model(config.model_copy(update={"skips": skips}), in_channels=1, num_classes=1).eval()
    zero.load_state_dict(whole.state_dict())
    for level in (1, 3):
        stage = whole.decoder[f"level{level}"]  # type: ignore[index]
        assert isinstance(stage, UpStage)
        stage.skip = _Blank()
    images = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(zero(images), whole(images), rtol=0, atol=0)


class _Blank(nn.Module):
    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor | None) -> Tensor:
        return feature * 0


@pytest.mark.parametrize("train", [True, False])
def test_a_token_skip_is_its_equation(train: bool) -> None:
    """The tokens upsampled first, then convolved, normalised and cut at zero: outputs, gradients, statistics."""
    skip = build_skip(SKIP_KINDS["dat"], SkipSite(decoder_channels=3, skip_channels=6, embed_dim=5, patch=4))
    assert isinstance(skip, TokenSkip)
    skip = skip.double().train(train)
    plain = nn.Sequential(nn.Conv2d(5, 6, 1), nn.BatchNorm2d(6), nn.ReLU()).double().train(train)
    with torch.no_grad():
        for ours, theirs in zip(skip.state_dict().values(), plain.state_dict().values(), strict=True):
            ours.copy_(torch.rand(ours.shape, dtype=torch.float64) + 0.5)
            theirs.copy_(ours)
    up, tokens = torch.rand(2, 3, 8, 12).double(), torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    out = skip(up, torch.rand(0), tokens)
    expected = plain(F.interpolate(tokens.mT.unflatten(2, (2, 3)), scale_factor=4, mode="nearest"))
    torch.testing.assert_close(out, expected)
    probe = torch.randn_like(out)
    gradients = [
        torch.autograd.grad(one, [tokens, *of.parameters()], probe) for one, of in ((out, skip), (expected, plain))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(skip.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("quiet_tracing")
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=_id(settings), marks=() if settings == ZEROED else pytest.mark.slow)
        for settings in (*MIXED, *GROUPS["ladder"])
    ],
)
def test_exports_with_dynamic_batch_height_and_width(settings: Settings) -> None:
    torch.manual_seed(0)
    model = build_model(_small(settings), in_channels=1, num_classes=2).eval()
    rows, columns = Dim("rows", min=2, max=64), Dim("columns", min=2, max=64)
    dynamic = {0: Dim("batch", min=1, max=64), 2: 16 * rows, 3: 16 * columns}
    program = export(model, (torch.rand(2, 1, 32, 48),), dynamic_shapes=(dynamic,), strict=False).module()
    for shape in ((2, 1, 32, 48), (1, 1, 64, 32), (3, 1, 32, 80)):
        images = torch.rand(shape)
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-5)
