"""The skips of a network seen from outside: what they put out, and what becomes of it when that is replaced.

Hooks of torch do it, for as long as a `with` block lasts; the networks know nothing of it. Letters in shapes: B images,
C channels, H x W places of a level.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from udt_cluster.errors import UsageError
from udt_cluster.models import R34UNet, UDTransNet, UNet

LEVELS = (1, 2, 3, 4)
Network = UDTransNet | UNet | R34UNet
Kinds = Mapping[int, str]


@dataclass
class Seen:
    """What a decoder made of one batch, by level: (B, C, H, W) each.

    Attributes:
        ups: The decoder's feature u_i beside which the skip is set.
        skips: What the skip puts out.
        gates: The gate of DRA skips.
    """

    ups: dict[int, Tensor] = field(default_factory=dict)
    skips: dict[int, Tensor] = field(default_factory=dict)
    gates: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Attention:
    """One attention of a network, with what it was asked in one forward pass.

    Attributes:
        kind: `cfa`, `ssa`, `dra_channel` or `dra_spatial`.
        place: The transformer's block from 1, or the level of a DRA.
        module: Has a method `attention` of the arguments of its `forward`.
        arguments: Those of that pass.
    """

    kind: str
    place: int
    module: nn.Module
    arguments: tuple[Any, ...]

    def weights(self) -> Tensor:
        """The map, whose rows sum to 1, made again as the forward pass made it."""
        weights: Tensor = self.module.attention(*self.arguments)  # type: ignore[operator]
        return weights


def as_network(module: nn.Module) -> Network:
    """The module as one whose skips are known.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(module, UDTransNet | UNet | R34UNet):
        raise UsageError(
            f"the model is a {type(module).__name__}; explain knows the skips of udtransnet, unet and r34_unet"
        )
    return module


def skip_kinds(network: Network) -> Kinds:
    """The kind of each level that has a skip, ascending; zeros in place of a skip are none."""
    return {level: kind for level, kind in zip(LEVELS, network.skips, strict=True) if kind not in ("none", "zero")}


@contextmanager
def replaced(network: Network, instead: Mapping[int, Tensor | None]) -> Iterator[None]:
    """While it lasts, the decoder gets something else than the skips of some levels put out.

    Args:
        network: Whose.
        instead: By level, what it gets: None for zeros.
    """
    with ExitStack() as hooks:
        for level, output in instead.items():
            _hook(hooks, _skip(network, level), partial(_stand_in, output))
        yield


@contextmanager
def watched(network: Network) -> Iterator[Seen]:
    """While it lasts, every pass of the decoder leaves its features there."""
    seen = Seen()
    with ExitStack() as hooks:
        for level in LEVELS:
            _hook(hooks, _stage(network, level).up, _into(seen.ups, level))
        for level, kind in skip_kinds(network).items():
            _hook(hooks, _skip(network, level), _into(seen.skips, level))
            if kind.startswith("dra"):
                _hook(hooks, _skip(network, level).gate, _into(seen.gates, level))
        yield seen


@contextmanager
def asked(network: Network) -> Iterator[list[Attention]]:
    """While it lasts, every attention of a pass leaves there what it was asked, in the order in which they run."""
    found: list[Attention] = []
    with ExitStack() as hooks:
        for kind, place, module in _attentions(network):
            hooks.callback(module.register_forward_pre_hook(partial(_note, found, kind, place)).remove)
        yield found


def _attentions(network: Network) -> Iterator[tuple[str, int, nn.Module]]:
    if isinstance(network, UDTransNet) and network.dat is not None:
        for number, block in enumerate(network.dat.blocks, start=1):
            for name in network.attention:
                yield name, number, getattr(block, name)
    for level, kind in skip_kinds(network).items():
        if kind.startswith("dra"):
            yield kind, level, _skip(network, level)


def _note(found: list[Attention], kind: str, place: int, module: nn.Module, arguments: tuple[Any, ...]) -> None:
    found.append(Attention(kind, place, module, arguments))


def _stage(network: Network, level: int) -> Any:
    return network.decoder[f"level{level}"]


def _skip(network: Network, level: int) -> Any:
    return _stage(network, level).skip


def _hook(hooks: ExitStack, module: nn.Module, use: Callable[[Tensor], Tensor | None]) -> None:
    hooks.callback(module.register_forward_hook(lambda _, inputs, output: use(output)).remove)


def _stand_in(instead: Tensor | None, output: Tensor) -> Tensor:
    if instead is None:
        return torch.zeros_like(output)
    assert instead.shape == output.shape
    return instead


def _into(kept: dict[int, Tensor], level: int) -> Callable[[Tensor], None]:
    def keep(output: Tensor) -> None:
        kept[level] = output

    return keep
