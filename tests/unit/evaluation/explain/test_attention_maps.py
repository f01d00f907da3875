"""The maps that are drawn are those of the forward pass: times the values they give what each module puts out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udt_cluster.evaluation.explain.attention import object_tokens, place_maps, sharpest, token_at
from udt_cluster.evaluation.explain.network import Attention, asked
from udt_cluster.models.attention import ChannelFusion, SpatialSelection, attention_map
from udt_cluster.models.recalibration import DRA

MAKE = Callable[..., nn.Module]
CONFIGURATIONS = [
    {},
    {"head_merge": "released"},
    {"attention": ("ssa", "cfa")},
    {"attention": ("cfa",)},
    {"attention": ("ssa",), "skips": ("dra_spatial", "none", "dat", "dra_channel")},
    {"skips": ("dra_spatial", "dra_channel", "identity", "dat"), "num_heads": 4},
]


def recorded(network: nn.Module, images: Tensor) -> tuple[list[Attention], dict[nn.Module, Tensor]]:
    """What every attention was asked in a pass, and what its module put out."""
    outputs: dict[nn.Module, Tensor] = {}
    with asked(network) as found:
        modules = [m for m in network.modules() if isinstance(m, ChannelFusion | SpatialSelection | DRA)]
        hooks = [m.register_forward_hook(lambda m, _, out: outputs.__setitem__(m, out)) for m in modules]
        network(images)
    for hook in hooks:
        hook.remove()
    return found, outputs


def again(attention: Attention) -> Tensor:
    """The module's output from its map and its values, the map made whole."""
    module, arguments, weights = attention.module, attention.arguments, attention.weights()
    if isinstance(module, ChannelFusion):
        value = module._query_key_value(*(*arguments, None)[:2])[2].squeeze(1)
        return torch.unflatten(weights @ value, 1, (module.scales, -1)).permute(1, 0, 3, 2)
    if isinstance(module, SpatialSelection):
        value = module._query_key_value(*arguments)[2]
        selected = torch.einsum("bhsnm,bhmd->bhsnd", weights, value)
        return module.output(module._merge(selected.permute(2, 0, 1, 3, 4)))
    assert isinstance(module, DRA)
    return _dra_again(module, *arguments, weights=weights)


def _dra_again(module: DRA, up: Tensor, feature: Tensor, tokens: Tensor, *, weights: Tensor) -> Tensor:
    value = module.key_value(tokens).chunk(2, dim=-1)[1]  # (B, N, C)
    attended = (weights @ value.mT).mT if module.kind == "channel" else weights @ value
    patches = module.patch(up)
    grid = module.output(attended).mT.reshape(len(up), -1, *patches.shape[2:])
    grid = module.reconstruct_norm(module.reconstruct(grid)).relu()
    return F.interpolate(grid, scale_factor=module.pixels_per_side, mode="nearest") * module.gate(up)


@pytest.mark.parametrize("settings", CONFIGURATIONS, ids=str)
def test_map_times_values_is_what_the_module_put_out(network: MAKE, settings: dict[str, object]) -> None:
    made = network(**settings)
    torch.manual_seed(3)
    with torch.inference_mode():
        found, outputs = recorded(made, torch.rand(2, 1, 48, 32))
        assert {attention.module for attention in found} == set(outputs), "every attention is found"
        for attention in found:
            wanted = outputs[attention.module]
            assert wanted.abs().max() > 1e-3, "a test of zeros would show nothing"
            torch.testing.assert_close(again(attention), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", CONFIGURATIONS, ids=str)
def test_rows_of_maps_sum_to_one(network: MAKE, settings: dict[str, object]) -> None:
    with torch.inference_mode():
        found, _ = recorded(network(**settings), torch.rand(1, 1, 32, 32))
        for attention in found:
            sums = attention.weights().sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums))


def test_the_map_is_softmax_of_instance_norm() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 4, 10, 6, dtype=torch.float64), torch.randn(2, 3, 15, 6, dtype=torch.float64)
    logits = torch.einsum("bhgnd,bhmd->bhgnm", q, k)
    wanted = F.instance_norm(logits.reshape(1, 24, 10, 15), eps=1e-5).reshape(logits.shape).softmax(-1)
    torch.testing.assert_close(attention_map(q, k), wanted)


def test_attentions_are_named_by_block_and_level(network: MAKE) -> None:
    with torch.inference_mode():
        found, _ = recorded(network(skips=("dra_spatial", "dat", "identity", "dra_channel")), torch.rand(1, 1, 32, 32))
    names = [(attention.kind, attention.place) for attention in found]
    assert names == [("cfa", 1), ("ssa", 1), ("cfa", 2), ("ssa", 2), ("dra_channel", 4), ("dra_spatial", 1)]


@pytest.mark.parametrize("architecture", ["unet", "r34_unet"])
def test_baselines_have_none(network: MAKE, architecture: str) -> None:
    with asked(network(architecture)) as found:
        pass
    assert found == []


def test_hooks_are_gone_afterwards(network: MAKE) -> None:
    made = network()
    with asked(made) as found:
        pass
    made(torch.rand(1, 1, 32, 32))
    assert found == []


def test_place_maps_hold_what_the_rows_say(network: MAKE) -> None:
    """The mean row of the chosen tokens, its shares for each scale, and the share that stays within the place."""
    made = network(skips=("dra_spatial", "dat", "identity", "dat"), scales=(1, 2, 4))
    grid, place = (2, 3), torch.tensor([True, False, False, True, False, False])
    with torch.inference_mode():
        found, _ = recorded(made, torch.rand(1, 1, 32, 48))
        maps = place_maps(made, found, place, grid)
        ssa = next(attention for attention in found if (attention.kind, attention.place) == ("ssa", 2))
        weights = ssa.weights()[0]  # (H, S, N, M); the readers are levels 1, 2, 4
    chosen = weights[1, 2][place].mean(0).reshape(3, 6)
    (one,) = [m for m in maps if (m.kind, m.block, m.level, m.head) == ("ssa", 2, 4, 2)]
    torch.testing.assert_close(torch.from_numpy(one.grid).flatten(), 6 * chosen.sum(0))
    assert one.scales == pytest.approx(dict(zip((1, 2, 4), chosen.sum(1).tolist(), strict=True)))
    assert one.on_object == pytest.approx(float(chosen.sum(0)[place].sum()))
    assert one.object_share == pytest.approx(1 / 3)
    spatial = [m for m in maps if m.kind == "dra_spatial"]
    assert [(m.level, m.block, m.head, m.scales) for m in spatial] == [(1, 0, None, {})]
    assert sum(one.scales.values()) == pytest.approx(1)


def test_the_mean_over_heads_is_their_mean(network: MAKE) -> None:
    made, place = network(), torch.tensor([True, False, False, False])
    with torch.inference_mode():
        found, _ = recorded(made, torch.rand(1, 1, 32, 32))
        maps = [m for m in place_maps(made, found, place, (2, 2)) if (m.block, m.level) == (1, 3)]
    mean, *heads = [torch.from_numpy(m.grid) for m in maps]
    assert [m.head for m in maps] == [None, 1, 2]
    torch.testing.assert_close(mean, torch.stack(heads).mean(0))


def test_the_sharpest_head_is_the_least_even_one() -> None:
    from udt_cluster.evaluation.explain.attention import PlaceMap

    def of(head: int | None, values: list[float]) -> PlaceMap:
        grid = torch.tensor(values).reshape(2, 2).numpy()
        return PlaceMap(kind="ssa", block=1, level=1, head=head, grid=grid, on_object=0.0, object_share=0.0, scales={})

    maps = [of(None, [0, 0, 0, 4]), of(1, [1, 1, 1, 1]), of(2, [3, 1, 0, 0])]
    assert sharpest(maps) is maps[2]
    assert sharpest(maps[:1]) is None


def test_tokens_of_an_object_are_those_it_fills_by_half() -> None:
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[:16, :24] = True
    mask[20:, 40:] = True  # 12 x 8 of 16 x 16: less than half
    tokens = object_tokens(mask, torch.rand(32, 48), (2, 3))
    assert tokens.tolist() == [True, True, False, False, False, False]


def test_without_an_object_it_is_the_most_probable_token() -> None:
    probability = torch.zeros(32, 48)
    probability[16:, 16:32] = 0.4
    tokens = object_tokens(torch.zeros(32, 48, dtype=torch.bool), probability, (2, 3))
    assert tokens.tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize(("at", "index"), [((0.0, 0.0), 0), ((0.49, 0.99), 2), ((1.0, 1.0), 5), ((0.5, 0.34), 4)])
def test_a_place_is_a_token(at: tuple[float, float], index: int) -> None:
    assert token_at(at, (2, 3), device=torch.device("cpu")).nonzero().tolist() == [[index]]
