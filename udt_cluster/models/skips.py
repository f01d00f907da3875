"""The kinds of skip connection that a level can have: one table, to which a new kind is added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from udt_cluster.models.layers import LEVELS
from udt_cluster.models.recalibration import DRA, TokenSkip


@dataclass(frozen=True, kw_only=True)
class SkipSite:
    """The place of one skip.

    Attributes:
        decoder_channels: Of the upsampled map beside which the skip is set.
        skip_channels: Of the skip, and of the encoder's feature.
        embed_dim: Token width; 0 where there is no transformer.
        patch: Pixels of this level per token and side; 0 where there is no transformer.
    """

    decoder_channels: int
    skip_channels: int
    embed_dim: int = 0
    patch: int = 0


@dataclass(frozen=True, kw_only=True)
class SkipKind:
    """One kind of skip.

    Attributes:
        build: Makes it; None where there is nothing to make.
        reads_tokens: Whether it reads a transformer's tokens; only UDTransNet has one.
        for_baselines: Whether it is a control for the baselines, which UDTransNet does not have.
    """

    build: Callable[[SkipSite], nn.Module] | None
    reads_tokens: bool = False
    for_baselines: bool = False


class IdentitySkip(nn.Module):
    """U-Net's skip: the encoder's feature itself."""

    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor | None) -> Tensor:
        """`feature`, as it is."""
        return feature


class ZeroSkip(nn.Module):
    """Nothing, in as many channels as the encoder's feature: the decoder keeps its parameters and gets no skip."""

    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor | None) -> Tensor:
        """Zeros of the shape of `feature`."""
        return torch.zeros_like(feature)


def _identity(site: SkipSite) -> nn.Module:
    return IdentitySkip()


def _zero(site: SkipSite) -> nn.Module:
    return ZeroSkip()


def _dat(site: SkipSite) -> nn.Module:
    return TokenSkip(skip_channels=site.skip_channels, embed_dim=site.embed_dim, patch=site.patch)


def _dra_channel(site: SkipSite) -> nn.Module:
    return DRA(kind="channel", **vars(site))


def _dra_spatial(site: SkipSite) -> nn.Module:
    return DRA(kind="spatial", **vars(site))


SKIP_KINDS: Mapping[str, SkipKind] = {
    "none": SkipKind(build=None),
    "identity": SkipKind(build=_identity),
    "zero": SkipKind(build=_zero, for_baselines=True),
    "dat": SkipKind(build=_dat, reads_tokens=True),
    "dra_channel": SkipKind(build=_dra_channel, reads_tokens=True),
    "dra_spatial": SkipKind(build=_dra_spatial, reads_tokens=True),
}


def parse_skips(skips: Sequence[str], *, tokens: bool) -> tuple[SkipKind, ...]:
    """The kind of each level, full resolution first.

    Args:
        skips: Four names of `SKIP_KINDS`.
        tokens: Whether the architecture has a transformer whose tokens a skip can read.

    Raises:
        ValueError: Not four names, or one that this architecture does not have.
    """
    allowed = {
        name: kind for name, kind in SKIP_KINDS.items() if not (kind.for_baselines if tokens else kind.reads_tokens)
    }
    if len(skips) != len(LEVELS) or not set(skips) <= set(allowed):
        raise ValueError(
            f"skips={list(skips)}: must be {len(LEVELS)} kinds, level 1 (full resolution) first, "
            f"each one of {', '.join(allowed)}"
        )
    return tuple(allowed[name] for name in skips)


def build_skip(kind: SkipKind, site: SkipSite) -> nn.Module | None:
    """The module of one level, or None where there is no skip."""
    return None if kind.build is None else kind.build(site)
