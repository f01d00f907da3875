"""UDTransNet as its equations read, one operation per symbol: the peer of the fast one in tests and benchmarks.

No rewrite of any kind: maps are made, instance-normalised and kept; tokens are upsampled before the 1x1 convolution.
It has the authors' released parameter names, so the project's public converter carries weights between the two.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 64, 128, 256, 512)
UP_WIDTHS = (32, 64, 128, 256)
PATCHES = (16, 8, 4, 2)


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        layers += [nn.Conv2d(width, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride == 2:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


def resnet_layer(in_channels: int, out_channels: int, depth: int, stride: int) -> nn.Sequential:
    blocks = [Residual(in_channels, out_channels, stride)]
    return nn.Sequential(*blocks, *(Residual(out_channels, out_channels, 1) for _ in range(depth - 1)))


def normalised(attention_map: Tensor) -> Tensor:
    """Softmax of InstanceNorm of (B, heads, n, m)."""
    return torch.softmax(F.instance_norm(attention_map), dim=-1)


class Embedding(nn.Module):
    def __init__(self, channels: int, patch: int, width: int, tokens: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embeddings = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch_embeddings(x).flatten(2).transpose(1, 2) + self.position_embeddings


class Attention(nn.Module):
    """CFA and then SSA."""

    def __init__(self, width: int, heads: int, head_merge: str, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_merge = heads, head_merge
        for scale in (1, 2, 3, 4):
            self.add_module(f"query{scale}", nn.Linear(width, width, bias=False))
            self.add_module(f"out{scale}", nn.Linear(width, width, bias=False))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.query_C = nn.Linear(4 * width, 4 * width, bias=False)
        self.key_C = nn.Linear(4 * width, 4 * width, bias=False)
        self.value_C = nn.Linear(4 * width, 4 * width, bias=False)
        self.attention_dropout = nn.Dropout(dropout)
        self.output_dropout = nn.Dropout(dropout)

    def fuse(self, c: Tensor) -> Tensor:
        q, k, v = self.query_C(c), self.key_C(c), self.value_C(c)
        attention = self.attention_dropout(normalised((q.transpose(1, 2) @ k).unsqueeze(1)).squeeze(1))
        fused = (attention @ v.transpose(1, 2)).transpose(1, 2)
        return torch.cat(fused.chunk(4, dim=2), dim=1)

    def split(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        return x.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)

    def select(self, scale: int, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = self.split(getattr(self, f"query{scale}")(x))
        attended = self.attention_dropout(normalised(q @ key.transpose(2, 3))) @ value
        if scale == 1 or self.head_merge == "standard":
            attended = attended.transpose(1, 2)
        merged = attended.contiguous().view(x.shape)
        return self.output_dropout(getattr(self, f"out{scale}")(merged))

    def forward(self, xs: list[Tensor], c: Tensor) -> list[Tensor]:
        source = self.fuse(c)
        key, value = self.split(self.key(source)), self.split(self.value(source))
        return [self.select(scale, x, key, value) for scale, x in enumerate(xs, start=1)]


class MLP(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, head_merge: str, dropout: float) -> None:
        super().__init__()
        for scale in (1, 2, 3, 4):
            self.add_module(f"attn_norm{scale}", nn.LayerNorm(width, eps=1e-6))
            self.add_module(f"ffn_norm{scale}", nn.LayerNorm(width, eps=1e-6))
            self.add_module(f"ffn{scale}", MLP(width, dropout))
        self.attn_norm_C = nn.LayerNorm(4 * width, eps=1e-6)
        self.channel_attn = Attention(width, heads, head_merge, dropout)

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        c = self.attn_norm_C(torch.cat(tokens, dim=2))
        xs = [getattr(self, f"attn_norm{scale}")(t) for scale, t in enumerate(tokens, start=1)]
        tokens = [t + selected for t, selected in zip(tokens, self.channel_attn(xs, c), strict=True)]
        norms = [getattr(self, f"ffn_norm{scale}") for scale in (1, 2, 3, 4)]
        mlps = [getattr(self, f"ffn{scale}") for scale in (1, 2, 3, 4)]
        return [t + mlp(norm(t)) for t, norm, mlp in zip(tokens, norms, mlps, strict=True)]


class Encoder(nn.Module):
    def __init__(self, width: int, layers: int, block: Callable[[], Block]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(block() for _ in range(layers))
        for scale in (1, 2, 3, 4):
            self.add_module(f"encoder_norm{scale}", nn.LayerNorm(width, eps=1e-6))

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        for block in self.layer:
            tokens = block(tokens)
        return [getattr(self, f"encoder_norm{scale}")(t) for scale, t in enumerate(tokens, start=1)]


class Transformer(nn.Module):
    def __init__(self, width: int, tokens: int, encoder: Encoder) -> None:
        super().__init__()
        for scale in (1, 2, 3, 4):
            self.add_module(f"embeddings_{scale}", Embedding(WIDTHS[scale - 1], PATCHES[scale - 1], width, tokens))
        self.encoder = encoder

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return self.encoder([getattr(self, f"embeddings_{scale}")(e) for scale, e in enumerate(features, start=1)])


class Reconstruct(nn.Module):
    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, r: Tensor, height: int, width: int) -> Tensor:
        grid = r.transpose(1, 2).reshape(len(r), -1, height, width)
        return F.relu(self.norm(self.conv(F.interpolate(grid, scale_factor=self.patch, mode="nearest"))))


class Recalibration(nn.Module):
    def __init__(self, kind: str, decoder: int, skip: int, width: int, patch: int) -> None:
        super().__init__()
        self.kind = kind
        self.patch_embeddings = nn.Conv2d(decoder, decoder, patch, patch)
        self.conv = nn.Sequential(nn.Conv2d(decoder, skip, 1), nn.BatchNorm2d(skip), nn.ReLU())
        self.query = nn.Linear(decoder, skip, bias=False)
        self.key = nn.Linear(width, skip, bias=False)
        self.value = nn.Linear(width, skip, bias=False)
        self.out = nn.Linear(skip, skip, bias=False)
        self.reconstruct = Reconstruct(skip, patch)

    def forward(self, u: Tensor, o: Tensor) -> Tensor:
        patches = self.patch_embeddings(u)
        z = patches.flatten(2).transpose(1, 2)
        q, k, v = self.query(z), self.key(o), self.value(o)
        if self.kind == "channel":
            attention = normalised((q.transpose(1, 2) @ k).unsqueeze(1)).squeeze(1)
            r = self.out((attention @ v.transpose(1, 2)).transpose(1, 2))
        else:
            r = self.out(normalised((q @ k.transpose(1, 2)).unsqueeze(1)).squeeze(1) @ v)
        return self.reconstruct(r, *patches.shape[2:]) * self.conv(u)


class Up(nn.Module):
    def __init__(self, level: int, kind: str, width: int) -> None:
        super().__init__()
        up, skip = UP_WIDTHS[level - 1], WIDTHS[level - 1]
        self.up = nn.Sequential(nn.ConvTranspose2d(2 * up, up, 2, 2), nn.BatchNorm2d(up), nn.ReLU())
        self.pam = Recalibration(kind, up, skip, width, PATCHES[level - 1])
        self.conv = conv_block(up + skip, up)

    def forward(self, deeper: Tensor, o: Tensor) -> Tensor:
        u = self.up(deeper)
        return self.conv(torch.cat([self.pam(u, o), u], dim=1))


class PlainUDTransNet(nn.Module):
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_heads: int = 4,
        num_layers: int = 4,
        embed_dim: int = 128,
        kind: str = "channel",
        head_merge: str = "released",
        dropout: float = 0.1,
        tokens: int = 196,
    ) -> None:
        super().__init__()
        self.Conv1 = conv_block(in_channels, 64)
        for level, (depth, stride) in enumerate(((3, 1), (4, 2), (6, 2), (3, 2)), start=1):
            self.add_module(f"Conv{level + 1}", resnet_layer(WIDTHS[level - 1], WIDTHS[level], depth, stride))
        blocks = Encoder(embed_dim, num_layers, lambda: Block(embed_dim, num_heads, head_merge, dropout))
        self.mtc = Transformer(embed_dim, tokens, blocks)
        for level in (4, 3, 2, 1):
            self.add_module(f"Up{level + 1}", Up(level, kind, embed_dim))
        self.pred = nn.Sequential(nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, num_classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = [self.Conv1(images)]
        for level in (1, 2, 3, 4):
            x = F.max_pool2d(features[-1], 2) if level == 1 else features[-1]
            features.append(getattr(self, f"Conv{level + 1}")(x))
        tokens = self.mtc(features[:4])
        decoded = features[4]
        for level in (4, 3, 2, 1):
            decoded = getattr(self, f"Up{level + 1}")(decoded, tokens[level - 1])
        logits: Tensor = self.pred(decoded)
        return logits


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights under which every part matters: no zero position, no unit norm, no fresh running statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            value = 1 + noise.abs()
        elif tensor.dim() >= 2:
            value = noise / math.sqrt(math.prod(tensor.shape[1:]))
        else:
            value = float(name.endswith("weight")) + 0.1 * noise
        tensor.copy_(value)
