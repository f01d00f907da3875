"""The two baselines: U-Net of base width 32 (arXiv 1505.04597) and R34-UNet, UDTransNet's encoder with plain skips."""

from collections.abc import Sequence

from torch import Tensor, nn

from udt_cluster.models.layers import (
    LEVELS,
    ConvBlock,
    Decoder,
    UpStage,
    check_counts,
    check_input,
    segmentation_head,
)
from udt_cluster.models.resnet import WIDTHS as R34_WIDTHS
from udt_cluster.models.resnet import ResNet34Encoder
from udt_cluster.models.skips import SkipSite, build_skip, parse_skips

UNET_WIDTHS = (32, 64, 128, 256, 512)
OUT_WIDTHS = (32, 64, 128, 256)  # of the decoder's levels 1..4, both baselines


class UNetEncoder(nn.Module):
    """Conv blocks with a twofold max-pool between: (B, C, H, W) -> 32, 64, 128, 256, 512 channels at H .. H/16."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = zip((in_channels, *UNET_WIDTHS), UNET_WIDTHS, strict=False)
        self.levels = nn.ModuleList(ConvBlock(before, after) for before, after in widths)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The five features, full resolution first."""
        features = [self.levels[0](images)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return tuple(features)


class PlainUNet(nn.Module):
    """An encoder of five features, and a decoder whose skips are `identity`, `none` or `zero`; logits out."""

    def __init__(
        self,
        encoder: nn.Module,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int],
        up_widths: Sequence[int],
        skips: Sequence[str],
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, num_classes=num_classes)
        kinds = parse_skips(skips, tokens=False)
        self.in_channels = in_channels
        self.skips = tuple(skips)
        self.encoder = encoder
        sites = [SkipSite(decoder_channels=up, skip_channels=skip) for up, skip in zip(up_widths, widths, strict=False)]
        self.decoder = Decoder(
            {
                level: UpStage(
                    in_channels=widths[-1] if level == LEVELS[-1] else OUT_WIDTHS[level],
                    up_channels=site.decoder_channels,
                    skip=build_skip(kind, site),
                    skip_channels=site.skip_channels,
                    out_channels=OUT_WIDTHS[level - 1],
                )
                for level, kind, site in zip(LEVELS, kinds, sites, strict=True)
            }
        )
        self.head = segmentation_head(OUT_WIDTHS[0], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, num_classes, H, W); H and W multiples of 16, else ValueError."""
        return self.decode(*self.encode(images))

    def encode(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        """What the decoder reads: the features e1..e5, and None for the tokens that there are not."""
        check_input(images, in_channels=self.in_channels)
        return self.encoder(images), (None,) * len(LEVELS)

    def decode(self, features: Sequence[Tensor], tokens: Sequence[Tensor | None]) -> Tensor:
        """What `encode` returned -> logits."""
        logits: Tensor = self.head(self.decoder(features, tokens))
        return logits


class UNet(PlainUNet):
    """U-Net of base width 32, as released beside UDTransNet; `num_classes` 1 gives one logit map.

    `skips` holds a kind for each of the levels 1..4, full resolution first: `identity`, `none` (a narrower decoder) or
    `zero` (zeros instead of the feature, and all parameters). Raises ValueError for any other kind.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, skips: Sequence[str] = ("identity",) * len(LEVELS)
    ) -> None:
        super().__init__(
            UNetEncoder(in_channels),
            in_channels=in_channels,
            num_classes=num_classes,
            widths=UNET_WIDTHS,
            up_widths=OUT_WIDTHS,
            skips=skips,
        )


class R34UNet(PlainUNet):
    """UDTransNet's encoder with plain skips: the released baseline, with its up stage mended.

    `skips` holds a kind for each of the levels 1..4, full resolution first: `identity`, `none` (a narrower decoder) or
    `zero` (zeros instead of the feature, and all parameters). Raises ValueError for any other kind.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, skips: Sequence[str] = ("identity",) * len(LEVELS)
    ) -> None:
        super().__init__(
            ResNet34Encoder(in_channels),
            in_channels=in_channels,
            num_classes=num_classes,
            widths=R34_WIDTHS,
            up_widths=(32, 64, 128, 256),
            skips=skips,
        )
