"""What networks take: the count is right, quick and reads nothing; the tables of docs/models.md are true."""

import itertools

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from tests.unit.models.configurations import GROUPS, PAGE, measured, rows
from udt_cluster.config.job import ModelConfig
from udt_cluster.config.problems import flow
from udt_cluster.models import Cost, build_model, cost
from udt_cluster.models.attention import normalised_attention

TABLE = rows(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_a_row_for_every_configuration() -> None:
    assert [model for model, _, _ in TABLE] == [flow(settings) for settings in itertools.chain(*GROUPS.values())]


def test_the_parameters_of_the_page_are_those_of_the_networks() -> None:
    wrong = {}
    for model, parameters, _ in TABLE:
        with torch.device("meta"):
            network = build_model(ModelConfig(**yaml.safe_load(model)), in_channels=3, num_classes=1)
        if (found := sum(parameter.numel() for parameter in network.parameters())) != parameters:
            wrong[model] = (found, parameters)
    assert wrong == {}


def _macs_are_true(part: list[tuple[str, int, int]]) -> None:
    found = {model: measured(yaml.safe_load(model)) for model, _, _ in part}
    assert found == {model: Cost(parameters=parameters, macs=macs) for model, parameters, macs in part}


def test_every_sixteenth_operation_count_of_the_page_is_that_of_the_network() -> None:
    _macs_are_true(TABLE[6::16])


@pytest.mark.slow
def test_every_operation_count_of_the_page_is_that_of_the_network() -> None:
    _macs_are_true(TABLE)


def test_published_sizes() -> None:
    for settings, parameters, gmac in (
        ({"architecture": "unet"}, 7_767_489, 9.27),
        ({"architecture": "r34_unet"}, 24_374_625, 22.57),
        ({}, 33_898_817, 26.14 - 0.342),  # less what the 1x1 convolutions before the upsampling save
    ):
        found = measured(settings)
        assert found.parameters == parameters
        assert found.macs / 1e9 == pytest.approx(gmac, rel=0.01)  # the scale of InstanceNorm takes products of its own


def test_attention_is_counted_with_its_scale() -> None:
    """Two products with the map, two Gram matrices, and the means of the rows."""
    heads, groups, n, m, d = 2, 3, 5, 11, 7
    q = torch.empty(1, heads, groups, n, d, device="meta")
    k = torch.empty(1, heads, m, d, device="meta")
    with FlopCounterMode(display=False) as counter:
        normalised_attention(q, k, k)
    rows = groups * n
    assert counter.get_total_flops() == 2 * heads * (2 * rows * m * d + rows * d * d + m * d * d + rows * d)


def test_operations_grow_with_the_pixels_and_parameters_do_not() -> None:
    config = ModelConfig(architecture="unet")
    small, large = (cost(config, in_channels=1, num_classes=4, size=size) for size in ((32, 64), (64, 128)))
    assert small.parameters == large.parameters
    assert 4 * small.macs == large.macs
    assert small.flops == 2 * small.macs
    assert str(small) == f"7.77 M parameters, {small.macs / 1e9:.2f} GMAC ({small.flops / 1e9:.1f} GFLOP) an image"


def test_nothing_is_read_or_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **settings: pytest.fail("was read"))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    config = ModelConfig(pretrained="imagenet", num_layers=1, embed_dim=16)
    plain = config.model_copy(update={"pretrained": "none"})
    assert cost(config, in_channels=1, num_classes=1, size=(32, 32)) == cost(
        plain, in_channels=1, num_classes=1, size=(32, 32)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_a_size_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        cost(ModelConfig(architecture="unet"), in_channels=1, num_classes=1, size=(40, 64))
