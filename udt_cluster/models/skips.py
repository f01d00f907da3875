"""The kinds of skip connection that a level can have: one table, to which a new kind is added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from udt_cluster.models.layers import LEVELS
from udt_cluster.models.recalibration import DRA


@dataclass(frozen=True, kw_only=True)
class SkipSite:
    """The place of one skip: the widths around it, and how many pixels of its level a token covers per side."""

    decoder_channels: int
    skip_channels: int
    embed_dim: int
    patch: int


@dataclass(frozen=True, kw_only=True)
class SkipKind:
    """How to build a skip (None: there is nothing to build), and whether it reads the transformer's tokens."""

    build: Callable[[SkipSite], nn.Module] | None
    reads_tokens: bool = False


class IdentitySkip(nn.Module):
    """U-Net's skip: the encoder's feature itself."""

    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor | None) -> Tensor:
        """`feature`, as it is."""
        return feature


def _dra_channel(site: SkipSite) -> nn.Module:
    return DRA(kind="channel", **vars(site))


def _dra_spatial(site: SkipSite) -> nn.Module:
    return DRA(kind="spatial", **vars(site))


def _identity(site: SkipSite) -> nn.Module:
    return IdentitySkip()


SKIP_KINDS: Mapping[str, SkipKind] = {
    "dra_channel": SkipKind(build=_dra_channel, reads_tokens=True),
    "dra_spatial": SkipKind(build=_dra_spatial, reads_tokens=True),
    "identity": SkipKind(build=_identity),
    "none": SkipKind(build=None),
}


def parse_skips(skips: Sequence[str], *, tokens: bool) -> tuple[SkipKind, ...]:
    """The kind of each level, full resolution first.

    Args:
        skips: Four names of `SKIP_KINDS`.
        tokens: Whether the architecture has a transformer whose tokens a skip can read.

    Raises:
        ValueError: Not four names, or one that this architecture does not have.
    """
    allowed = {name: kind for name, kind in SKIP_KINDS.items() if tokens or not kind.reads_tokens}
    if len(skips) != len(LEVELS) or not set(skips) <= set(allowed):
        raise ValueError(
            f"skips={list(skips)}: must be {len(LEVELS)} kinds, level 1 (full resolution) first, "
            f"each one of {', '.join(allowed)}"
        )
    return tuple(allowed[name] for name in skips)


def build_skip(kind: SkipKind, site: SkipSite) -> nn.Module | None:
    """The module of one level, or None where there is no skip."""
    return None if kind.build is None else kind.build(site)
