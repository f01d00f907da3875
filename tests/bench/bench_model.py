"""UDTransNet against a plain transcription of its equations: time of a step, and what autograd keeps for it.

    python -m tests.bench.bench_model [--batch 4] [--size 224] [--repeats 5] [--threads 2] [--clock wall|cpu]

Prints a Markdown table. Both run in one process on the same weights and images, turn about. Seconds are the medians of
each; the time ratio is the median of the ratios of neighbours, so a busy machine spoils the seconds but hardly the
ratio (`--clock cpu` counts the process's own seconds instead of the wall's). Kept bytes are those of the tensors that
autograd saves, each storage once; parameters, buffers and the inputs of a part that is measured alone are left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.models.plain_udtransnet import PlainUDTransNet, normalised
from udt_cluster.models.attention import normalised_attention
from udt_cluster.models.recalibration import gate_by_patch
from udt_cluster.models.released import from_released
from udt_cluster.models.udtransnet import UDTransNet

MIB = 2**20
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Contestant:
    """A forward function, and the tensors that exist anyway."""

    forward: Callable[[], Tensor]
    owned: list[Tensor]


@dataclass
class Row:
    name: str
    seconds: tuple[float, float]  # plain, ours
    time_ratio: float
    kept: tuple[float, float]  # bytes per image


def kept_bytes(contestant: Contestant) -> int:
    """Bytes of all storages that autograd keeps for the backward pass."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in contestant.owned}
    kept: dict[int, int] = {}
    holders: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
            holders.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        contestant.forward()
    return sum(kept.values())


def step_seconds(contestant: Contestant, clock: Clock) -> float:
    """One forward and backward pass."""
    start = clock()
    contestant.forward().square().mean().backward()
    return clock() - start


def compare(name: str, plain: Contestant, ours: Contestant, *, repeats: int, batch: int, clock: Clock) -> Row:
    """Interleaved repeats of both; the first of each warms up and does not count."""
    times = [(step_seconds(plain, clock), step_seconds(ours, clock)) for _ in range(repeats + 1)][1:]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ours_s / plain_s for plain_s, ours_s in times)
    return Row(name, (slow, fast), ratio, (kept_bytes(plain) / batch, kept_bytes(ours) / batch))


def whole_network(*, batch: int, size: int, dropout: float) -> tuple[Contestant, Contestant]:
    plain = PlainUDTransNet(in_channels=3, num_classes=1, dropout=dropout, tokens=(size // 16) ** 2)
    ours = from_released(plain.state_dict(), architecture="udtransnet", num_heads=4)
    assert isinstance(ours, UDTransNet)
    set_dropout(ours, dropout)
    images = torch.rand(batch, 3, size, size)
    return contestant(plain, images), contestant(ours, images)


def contestant(model: nn.Module, images: Tensor) -> Contestant:
    model.train()
    return Contestant(lambda: model(images), [*model.parameters(), *model.buffers()])


def set_dropout(model: nn.Module, rate: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate


def recalibrated_skip(*, batch: int, size: int) -> tuple[Contestant, Contestant]:
    """Level 1: 1x1 convolution, batch norm, ReLU and gate, after and before the sixteenfold upsampling."""
    patch, channels = 16, 64
    grid = torch.rand(batch, channels, size // patch, size // patch, requires_grad=True)
    gate = torch.rand(batch, channels, size, size, requires_grad=True)
    conv, norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def plain() -> Tensor:
        return F.relu(norm(conv(F.interpolate(grid, scale_factor=patch, mode="nearest")))) * gate

    def ours() -> Tensor:
        return gate_by_patch(gate, F.relu(norm(conv(grid))), pixels_per_side=patch)

    owned = [grid, gate, *conv.parameters(), *norm.parameters(), *norm.buffers()]
    return Contestant(plain, owned), Contestant(ours, owned)


def spatial_attention(*, batch: int, size: int, dropout: float) -> tuple[Contestant, Contestant]:
    """SSA's product of one block: four scales' queries against shared keys and values."""
    tokens, heads, width = (size // 16) ** 2, 4, 32
    q = torch.randn(batch, heads, 4, tokens, width, requires_grad=True)
    k, v = (torch.randn(batch, heads, 4 * tokens, width, requires_grad=True) for _ in range(2))

    def plain() -> Tensor:
        maps = [F.dropout(normalised(q[:, :, scale] @ k.mT), dropout) for scale in range(4)]
        return torch.stack([attention @ v for attention in maps])

    return Contestant(plain, [q, k, v]), Contestant(lambda: normalised_attention(q, k, v, dropout=dropout), [q, k, v])


def table(rows: Iterable[Row]) -> str:
    lines = [
        "| what | plain, s | ours, s | time ratio | plain kept, MiB/image | ours kept | kept ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        (slow, fast), (much, little) = row.seconds, row.kept
        lines.append(
            f"| {row.name} | {slow:.3f} | {fast:.3f} | {row.time_ratio:.2f} "
            f"| {much / MIB:.1f} | {little / MIB:.1f} | {little / much:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = {"batch": args.batch, "size": args.size}
    pairs = {f"whole step, dropout {p}": whole_network(**sizes, dropout=p) for p in (0.1, 0.0)}
    pairs["1x1 conv, BN, ReLU before the upsample (level 1)"] = recalibrated_skip(**sizes)
    for p in (0.1, 0.0):
        pairs[f"SSA product of one block, dropout {p}"] = spatial_attention(**sizes, dropout=p)
    options = {"repeats": args.repeats, "batch": args.batch, "clock": CLOCKS[args.clock]}
    rows = [compare(name, *pair, **options) for name, pair in pairs.items()]
    setting = f"batch {args.batch}, {args.size}x{args.size}, {args.threads} threads"
    print(f"UDTransNet, {setting}, medians of {args.repeats}, {args.clock} clock\n")
    print(table(rows))


if __name__ == "__main__":
    main()
