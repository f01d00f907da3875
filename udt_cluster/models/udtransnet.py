"""UDTransNet: a ResNet34 encoder, a transformer over all its scales (DAT), and a decoder that reads it (DRA).

Wang et al., "Narrowing the semantic gaps in U-Net with learnable skip connections: the case of medical image
segmentation", Neural Networks 2024, arXiv 2312.15182.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from udt_cluster.models.attention import HeadMerge
from udt_cluster.models.dat import BOTH, DAT, Attention
from udt_cluster.models.layers import LEVELS, STRIDE, Decoder, UpStage, check_counts, check_input, segmentation_head
from udt_cluster.models.resnet import WIDTHS, ResNet34Encoder
from udt_cluster.models.skips import SkipKind, SkipSite, build_skip, parse_skips

UP_WIDTHS = (32, 64, 128, 256)  # after the upsampling of levels 1..4
OUT_WIDTHS = (32, 64, 128, 256)  # after the conv block of levels 1..4
PATCHES = tuple(STRIDE >> (level - 1) for level in LEVELS)  # pixels per token and side: 16, 8, 4, 2


class UDTransNet(nn.Module):
    """The network of the paper; logits out, never probabilities.

    Args:
        in_channels: Channels of the image.
        num_classes: 1 for binary (one logit map), else one logit map per class, background included.
        num_heads: Heads of the spatial attention; must divide `embed_dim`.
        num_layers: Blocks of the transformer.
        embed_dim: Token width E.
        skips: The kind of each level, full resolution first: `dra_channel`, `dra_spatial`, `dat` (the tokens alone),
            `identity` (the encoder's feature) or `none` (a narrower decoder).
        scales: Levels whose features are tokens of the transformer, and stay inputs of it as long as one level reads
            tokens; what no level reads is not built, and with no reader there is no transformer.
        attention: `cfa`, `ssa` or both, in the order in which they run; DATBlock has the equations.
        mlp_ratio: Hidden width of the transformer's MLPs, in token widths.
        head_merge: `standard`, or `released` for the token order that the published weights were trained with.
        dropout: Rate in attention and MLP.
        reference_grid: Tokens (height, width) for which positions are learned; interpolated to any other size.

    Raises:
        ValueError: A size that cannot be built, naming it and what is allowed.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_heads: int = 4,
        num_layers: int = 4,
        embed_dim: int = 128,
        skips: Sequence[str] = ("dra_channel",) * len(LEVELS),
        scales: Sequence[int] = LEVELS,
        attention: Sequence[Attention] = BOTH,
        mlp_ratio: int = 2,
        head_merge: HeadMerge = "standard",
        dropout: float = 0.1,
        reference_grid: tuple[int, int] = (14, 14),
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes)
        kinds = parse_skips(skips, tokens=True)
        self.in_channels = in_channels
        self.skips = tuple(skips)
        self.attention, self.mlp_ratio = tuple(attention), mlp_ratio
        self.readers = tuple(level for level, kind in zip(LEVELS, kinds, strict=True) if kind.reads_tokens)
        self.scales = _checked_scales(scales, self.readers)
        self.encoder = ResNet34Encoder(in_channels)
        self.dat = None
        if self.readers:
            self.dat = DAT(
                channels=[WIDTHS[scale - 1] for scale in self.scales],
                patches=[PATCHES[scale - 1] for scale in self.scales],
                scales=self.scales,
                readers=self.readers,
                attention=attention,
                embed_dim=embed_dim,
                num_heads=num_heads,
                num_layers=num_layers,
                grid=reference_grid,
                head_merge=head_merge,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
            )
        self.decoder = Decoder({level: _up_stage(level, kinds[level - 1], embed_dim=embed_dim) for level in LEVELS})
        self.head = segmentation_head(OUT_WIDTHS[0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes, H, W); H and W multiples of 16, else ValueError."""
        return self.decode(*self.encode(images))

    def encode(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        """What the decoder reads: the features e1..e5, and the tokens of levels 1..4."""
        check_input(images, in_channels=self.in_channels)
        features: tuple[Tensor, ...] = self.encoder(images)
        return features, self._tokens(features)

    def decode(self, features: Sequence[Tensor], tokens: Sequence[Tensor | None]) -> Tensor:
        """What `encode` returned -> logits."""
        logits: Tensor = self.head(self.decoder(features, tokens))
        return logits

    def tokens(self, images: Tensor) -> tuple[Tensor | None, ...]:
        """The transformer's outputs (B, H/16 * W/16, E) for levels 1..4; None for a level that reads no tokens."""
        return self.encode(images)[1]

    def _tokens(self, features: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        if self.dat is None:
            return (None,) * len(LEVELS)
        outputs = self.dat([features[scale - 1] for scale in self.scales])
        read = dict(zip(self.readers, outputs, strict=True))
        return tuple(read.get(level) for level in LEVELS)


def _checked_scales(scales: Sequence[int], readers: Sequence[int]) -> tuple[int, ...]:
    """The scales in ascending order; refuse scales that there are not, and levels whose scale is left out."""
    if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(LEVELS):
        raise ValueError(f"scales={list(scales)}: must be one or more of {list(LEVELS)}, each once")
    if left_out := sorted(set(readers) - set(scales)):
        raise ValueError(f"skips: levels {left_out} read tokens of their scale, which is not in scales={list(scales)}")
    return tuple(sorted(scales))


def _up_stage(level: int, kind: SkipKind, *, embed_dim: int) -> UpStage:
    site = SkipSite(
        decoder_channels=UP_WIDTHS[level - 1],
        skip_channels=WIDTHS[level - 1],
        embed_dim=embed_dim,
        patch=PATCHES[level - 1],
    )
    return UpStage(
        in_channels=WIDTHS[-1] if level == LEVELS[-1] else OUT_WIDTHS[level],
        up_channels=site.decoder_channels,
        skip=build_skip(kind, site),
        skip_channels=site.skip_channels,
        out_channels=OUT_WIDTHS[level - 1],
    )
