"""The transformer whole and in parts: against its equations, without a part that nobody reads, exported."""

import itertools
import logging
import warnings
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from tests.unit.models.plain_udtransnet import normalised, randomise
from udt_cluster.models.dat import DAT, DATBlock

ATTENTIONS = [("cfa", "ssa"), ("cfa",), ("ssa",), ("ssa", "cfa")]
SUBSETS = [subset for size in (1, 2, 3, 4) for subset in itertools.combinations((1, 2, 3, 4), size)]
CHANNELS, WIDTH, HEADS = 3, 8, 2


def _dat(scales: Sequence[int], readers: Sequence[int], attention: Sequence[str], **changes: object) -> DAT:
    settings: dict[str, object] = {"num_layers": 1, "head_merge": "standard", "grid": (1, 2)}
    return DAT(
        channels=[CHANNELS] * len(scales),
        patches=[32 >> scale for scale in scales],
        scales=scales,
        readers=readers,
        attention=attention,  # type: ignore[arg-type]
        embed_dim=WIDTH,
        num_heads=HEADS,
        dropout=0.0,
        **settings | changes,  # type: ignore[arg-type]
    )


def _features(scales: Sequence[int], height: int = 16, width: int = 32) -> list[Tensor]:
    return [torch.rand(2, CHANNELS, 2 * height >> scale, 2 * width >> scale) for scale in scales]


@pytest.mark.parametrize("attention", ATTENTIONS, ids="_".join)
@pytest.mark.parametrize("scales", SUBSETS, ids=lambda scales: "".join(map(str, scales)))
def test_every_part_gets_a_gradient_whoever_reads(scales: tuple[int, ...], attention: tuple[str, ...]) -> None:
    readings = [readers for readers in SUBSETS if set(readers) <= set(scales)]
    for readers in readings:
        model = _dat(scales, readers, attention)
        with torch.no_grad():
            randomise(model)
        outputs = model(_features(scales))
        assert [tuple(tokens.shape) for tokens in outputs] == [(2, 2, WIDTH)] * len(readers)
        sum(tokens.square().mean() for tokens in outputs).backward()  # type: ignore[union-attr]
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == [], readers


@pytest.mark.parametrize("attention", ATTENTIONS, ids="_".join)
def test_what_nobody_reads_is_left_out_of_the_last_block_alone(attention: tuple[str, ...]) -> None:
    model = _dat((1, 2, 4), (2,), attention, num_layers=2)
    first, last = model.blocks
    assert isinstance(first, DATBlock)
    assert isinstance(last, DATBlock)
    assert (first.updated, last.updated) == (None, (1,))
    assert [len(block.mlp.hidden.weight) for block in (first, last)] == [3, 1]
    assert len(model.norm.weight) == 1
    if attention[-1] == "ssa":
        assert [len(block.ssa.query.weight) for block in (first, last)] == [3, 1]


def _cut(weight: Tensor, count: int) -> tuple[Tensor, ...]:
    return weight.chunk(count)


def _plain_cfa(block: DATBlock, tokens: list[Tensor], before: list[Tensor] | None) -> list[Tensor]:
    c = block.fusion_norm(torch.cat(tokens, dim=2))
    if before is None:
        assert block.cfa.qkv is not None
        source, (wq, wk, wv) = c, _cut(block.cfa.qkv.weight, 3)
    else:
        assert block.cfa.query is not None
        assert block.cfa.key_value is not None
        source, wq, (wk, wv) = torch.cat(before, dim=2), block.cfa.query.weight, _cut(block.cfa.key_value.weight, 2)
    q, k, v = F.linear(c, wq), F.linear(source, wk), F.linear(source, wv)
    attention = normalised((q.mT @ k).unsqueeze(1)).squeeze(1)
    return list((attention @ v.mT).mT.chunk(len(tokens), dim=2))


def _plain_ssa(block: DATBlock, tokens: list[Tensor], before: list[Tensor] | None, merges: list[bool]) -> list[Tensor]:
    norms = zip(tokens, block.query_norm.weight, block.query_norm.bias, strict=True)
    xs = [F.layer_norm(t, (WIDTH,), weight, bias, eps=1e-6) for t, weight, bias in norms]
    source = torch.cat(xs if before is None else before, dim=1)
    k, v = (_heads(F.linear(source, weight)) for weight in _cut(block.ssa.key_value.weight, 2))
    out = []
    for x, query, output, is_merged in zip(xs, block.ssa.query.weight, block.ssa.output.weight, merges, strict=True):
        attended = normalised(_heads(F.linear(x, query)) @ k.mT) @ v
        merged = (attended.transpose(1, 2) if is_merged else attended).contiguous().view(x.shape)
        out.append(F.linear(merged, output))
    return out


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def _plain_block(block: DATBlock, tokens: list[Tensor], merges: list[bool]) -> list[Tensor]:
    """The equations of DATBlock's docstring, with every scale read."""
    before: list[Tensor] | None = None
    for name in block.attention:
        before = _plain_cfa(block, tokens, before) if name == "cfa" else _plain_ssa(block, tokens, before, merges)
    assert before is not None
    tokens = [t + residual for t, residual in zip(tokens, before, strict=True)]
    out = []
    for index, t in enumerate(tokens):
        x = F.layer_norm(t, (WIDTH,), block.mlp_norm.weight[index], block.mlp_norm.bias[index], eps=1e-6)
        hidden = F.gelu(F.linear(x, block.mlp.hidden.weight[index], block.mlp.hidden.bias[index]))  # type: ignore[index]
        out.append(t + F.linear(hidden, block.mlp.output.weight[index], block.mlp.output.bias[index]))  # type: ignore[index]
    return out


@pytest.mark.parametrize("attention", ATTENTIONS, ids="_".join)
@pytest.mark.parametrize(
    ("scales", "merge", "ratio"), [((1, 2, 3, 4), "standard", 2), ((2, 3), "released", 1), ((1, 4), "released", 3)]
)
def test_blocks_are_their_equations(
    attention: tuple[str, ...], scales: tuple[int, ...], merge: str, ratio: int
) -> None:
    model = _dat(scales, scales, attention, num_layers=2, head_merge=merge, mlp_ratio=ratio, grid=(2, 3)).double()
    with torch.no_grad():
        randomise(model)
    tokens = torch.randn(len(scales), 2, 6, WIDTH, dtype=torch.float64)
    expected = list(tokens)
    for block in model.blocks:
        assert isinstance(block, DATBlock)
        assert block.mlp.hidden.weight.shape[1] == ratio * WIDTH
        expected = _plain_block(block, expected, [merge == "standard" or scale == 1 for scale in scales])
    torch.testing.assert_close(model.blocks(tokens), torch.stack(expected), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("attention", ATTENTIONS, ids="_".join)
def test_readers_read_what_they_would_read_among_all(attention: tuple[str, ...]) -> None:
    """Leaving out what is not read changes nothing of what is."""
    whole = _dat((1, 2, 3), (1, 2, 3), attention, num_layers=2).double()
    part = _dat((1, 2, 3), (3,), attention, num_layers=2).double()
    with torch.no_grad():
        randomise(whole)
        for name, tensor in part.state_dict().items():
            given = whole.state_dict()[name]
            tensor.copy_(given if given.shape == tensor.shape else given[2:])
    features = [feature.double() for feature in _features((1, 2, 3))]
    torch.testing.assert_close(part(features)[0], whole(features)[2], rtol=1e-10, atol=1e-12)


def test_attentions_are_different_networks() -> None:
    tokens, seen = torch.randn(2, 1, 6, WIDTH), []
    for attention in ATTENTIONS:
        model = _dat((1, 2), (1, 2), attention)
        with torch.no_grad():
            randomise(model)
            seen.append(model.blocks(tokens))
    for one, other in itertools.combinations(seen, 2):
        assert not torch.allclose(one, other, atol=1e-2)


def test_a_part_of_the_transformer_costs_what_its_widths_say() -> None:
    """CFA has 3 (nE)^2 weights in a block, with keys from nN tokens; SSA 2 E^2 for keys and values, 2 E^2 a scale."""

    def weights(attention: tuple[str, ...], scales: tuple[int, ...]) -> int:
        block = _dat(scales, scales, attention).blocks[0]
        return sum(p.numel() for name, p in block.named_parameters() if name.startswith(("cfa.", "ssa.")))

    for scales in SUBSETS:
        n, square = len(scales), WIDTH * WIDTH
        assert weights(("cfa",), scales) == 3 * n * n * square
        assert weights(("ssa",), scales) == (2 + 2 * n) * square
        assert weights(("cfa", "ssa"), scales) == weights(("ssa", "cfa"), scales) == (3 * n * n + 2 + 2 * n) * square


def test_dropout_acts_on_every_attention() -> None:
    for attention in ATTENTIONS:
        model = _dat((1, 2), (1, 2), attention)
        tokens, drops = torch.randn(2, 1, 6, WIDTH), [m for m in model.modules() if isinstance(m, nn.Dropout)]
        assert len(drops) == 3 + len(attention)
        with torch.no_grad():
            plain = model.train().blocks(tokens)
            for drop in drops:
                drop.p = 0.5
                assert not torch.equal(model.blocks(tokens), plain)
                drop.p = 0.0


@pytest.fixture
def quiet_tracing() -> Iterator[None]:
    """Torch's trace log is large, and pytest would keep all of it; and tracing warns of torch's own deprecations."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_tracing")
@pytest.mark.parametrize("attention", ATTENTIONS, ids="_".join)
@pytest.mark.parametrize(("scales", "readers"), [((2,), (2,)), ((1, 3), (3,)), ((1, 2, 3, 4), (1, 4))])
def test_exports_with_dynamic_batch_height_and_width(
    attention: tuple[str, ...], scales: tuple[int, ...], readers: tuple[int, ...]
) -> None:
    model = _dat(scales, readers, attention, head_merge="released").eval()
    rows, columns, batch = Dim("rows", min=2, max=64), Dim("columns", min=2, max=64), Dim("batch", min=1, max=64)
    dynamic = [{0: batch, 2: (32 >> scale) * rows, 3: (32 >> scale) * columns} for scale in scales]
    features = _features(scales, 32, 48)
    program = export(model, (features,), dynamic_shapes=(dynamic,), strict=False).module()
    for height, width in ((32, 48), (64, 32), (48, 80)):
        features = _features(scales, height, width)
        for ours, exported in zip(model(features), program(features), strict=True):
            torch.testing.assert_close(exported, ours, rtol=1e-4, atol=1e-5)
