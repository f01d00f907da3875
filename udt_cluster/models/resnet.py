"""The ResNet34 encoder of UDTransNet and R34-UNet: a full-resolution stem of its own, then ResNet34's four layers.

`layer1` .. `layer4` carry torchvision's names (`layer1.0.conv1.weight`), so ImageNet weights load by name
(He et al. 2016, arXiv 1512.03385). ResNet's 7x7 stem is not used: the first feature stays at full resolution.
"""

from torch import Tensor, nn

from udt_cluster.models.layers import ConvBlock

WIDTHS = (64, 64, 128, 256, 512)  # channels of e1 .. e5
DEPTHS = (3, 4, 6, 3)  # basic blocks in layer1 .. layer4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, in, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The residual sum after its ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(residual.add_(shortcut))  # batch norm's gradient does not need its output
        return out


def _layer(in_channels: int, out_channels: int, *, depth: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(out_channels, out_channels) for _ in range(depth - 1))
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)


class ResNet34Encoder(nn.Module):
    """(B, in_channels, H, W) -> e1 .. e5 of 64, 64, 128, 256, 512 channels at H, H/2, H/4, H/8, H/16."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = ConvBlock(in_channels, WIDTHS[0])
        self.pool = nn.MaxPool2d(2)
        self.layer1 = _layer(WIDTHS[0], WIDTHS[1], depth=DEPTHS[0], stride=1)
        self.layer2 = _layer(WIDTHS[1], WIDTHS[2], depth=DEPTHS[1], stride=2)
        self.layer3 = _layer(WIDTHS[2], WIDTHS[3], depth=DEPTHS[2], stride=2)
        self.layer4 = _layer(WIDTHS[3], WIDTHS[4], depth=DEPTHS[3], stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The five features, full resolution first."""
        e1 = self.stem(images)
        e2 = self.layer1(self.pool(e1))
        e3 = self.layer2(e2)
        e4 = self.layer3(e3)
        return e1, e2, e3, e4, self.layer4(e4)
