import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from tests.unit.training.fakes import blobs, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import CorruptError, VersionError
from udt_cluster.training import snapshot
from udt_cluster.training.losses import dice_bce
from udt_cluster.training.protocols import NonFiniteError
from udt_cluster.training.recipe import build_optimizer


def _trained(optimizer_name: str = "adam") -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = tiny_net()
    optimizer = build_optimizer(model.parameters(), TrainConfig(optimizer=optimizer_name))
    for seed in range(3):
        data = blobs(4, seed=seed)
        optimizer.zero_grad()
        dice_bce(model(data.images), data.labels)["loss"].backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_weights_and_optimizer_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    model, optimizer = _trained(name)
    snapshot.save_weights(model.state_dict(), tmp_path)
    snapshot.save_optimizer(optimizer, model, tmp_path)
    other = tiny_net(seed=5)
    other_optimizer = build_optimizer(other.parameters(), TrainConfig(optimizer=name))
    snapshot.load_weights(other, tmp_path)
    snapshot.load_optimizer(other_optimizer, other, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert optimizer.state[mine].keys() == other_optimizer.state[theirs].keys() >= {"step", "exp_avg"}
        assert all(
            torch.equal(optimizer.state[mine][k], other_optimizer.state[theirs][k]) for k in optimizer.state[mine]
        )
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_channels_last_weights_can_be_written_and_keep_their_layout(tmp_path: Path) -> None:
    model = tiny_net().to(memory_format=torch.channels_last)
    wanted = [tensor.clone() for tensor in model.state_dict().values()]
    snapshot.save_weights(model.state_dict(), tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    strides = [parameter.stride() for parameter in model.parameters()]
    snapshot.load_weights(model, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(wanted, model.state_dict().values(), strict=True))
    assert [parameter.stride() for parameter in model.parameters()] == strides


def test_another_network_is_refused(tmp_path: Path) -> None:
    model, optimizer = _trained()
    snapshot.save_weights(model.state_dict(), tmp_path)
    snapshot.save_optimizer(optimizer, model, tmp_path)
    with pytest.raises(CorruptError, match="does not fit the network"):
        snapshot.load_weights(tiny_net(channels_out=3), tmp_path)
    smaller = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3))
    with pytest.raises(CorruptError, match="which the network does not have"):
        snapshot.load_optimizer(torch.optim.Adam(smaller.parameters()), smaller, tmp_path)


def _with_statistics(value: float) -> torch.nn.Module:
    model = tiny_net()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.fill_(value)
    return model


def _load(model: torch.nn.Module, folder: Path, *, rank: int, ranks: int) -> None:
    snapshot.load_rank_state(model, folder, rank=rank, saved_ranks=2, ranks=ranks, seed=7)


def test_each_rank_gets_its_random_state_and_its_statistics_back(tmp_path: Path) -> None:
    expected = []
    for rank in range(2):
        model = _with_statistics(rank + 0.5)
        snapshot.seed_all(3, rank=rank)
        snapshot.save_rank_state(model, tmp_path, rank=rank)
        expected.append(torch.rand(4))
    for rank in range(2):
        model = tiny_net()
        _load(model, tmp_path, rank=rank, ranks=2)
        assert torch.equal(torch.rand(4), expected[rank])
        assert torch.equal(model[1].running_mean, torch.full((8,), rank + 0.5))


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_ranks_takes_the_mean_of_the_statistics(tmp_path: Path, ranks: int) -> None:
    for rank in range(2):
        model = _with_statistics(rank + 0.5)
        snapshot.seed_all(3, rank=rank)
        snapshot.save_rank_state(model, tmp_path, rank=rank)
    draws = []
    for rank in range(ranks):
        model = tiny_net()
        _load(model, tmp_path, rank=rank, ranks=ranks)
        assert torch.equal(model[1].running_var, torch.full((8,), 1.0))
        draws.append(torch.rand(1).item())
    assert len(set(draws)) == ranks


def test_a_rank_without_its_part_is_refused(tmp_path: Path) -> None:
    snapshot.save_rank_state(tiny_net(), tmp_path, rank=0)
    with pytest.raises(CorruptError, match=r"there is no rank-00001\.safetensors, the part of rank 1"):
        _load(tiny_net(), tmp_path, rank=1, ranks=2)
    with pytest.raises(CorruptError, match=r"does not fit the network: it differs in \['1\.running_mean'"):
        _load(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3)), tmp_path, rank=0, ranks=2)


def test_fault_f6_a_full_disk_is_an_error_of_the_system_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(snapshot, "save_file", full)
    with pytest.raises(OSError, match=r"model\.safetensors: .*No space left on device"):
        snapshot.save_weights(tiny_net().state_dict(), tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fault_f1_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    model = tiny_net()
    with torch.no_grad():
        model[4].bias.fill_(value)
    with pytest.raises(NonFiniteError, match=r"in 4\.bias \(1 tensors\)"):
        snapshot.save_weights(model.state_dict(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_seeds_differ_by_seed_and_rank_and_by_nothing_else() -> None:
    def draw(seed: int, rank: int) -> tuple[float, float]:
        snapshot.seed_all(seed, rank=rank)
        return torch.rand(1).item(), float(np.random.rand())

    draws = [draw(seed, rank) for seed in (0, 1, 2) for rank in (0, 1, 2)]
    assert len({value for pair in draws for value in pair}) == 18
    assert draw(1, 2) == draws[5]


@pytest.mark.parametrize(
    ("saved", "asked", "message"),
    [
        ((1, 2), (1, 3), "set resources.workers: 2"),
        ((3, 4), (3, 1), "set resources.workers: 4"),
        ((0, 2), (1, 2), "set zero_stage: 0"),
        ((2, 2), (0, 2), "set zero_stage: 2"),
        ((0, 2), (0, 5), None),
        ((2, 2), (2, 2), None),
    ],
)
def test_fault_w1_another_world_size(saved: tuple[int, int], asked: tuple[int, int], message: str | None) -> None:
    if message is None:
        snapshot.check_resumable("step-1", saved=saved, asked=asked)
    else:
        with pytest.raises(VersionError, match=message):
            snapshot.check_resumable("step-1", saved=saved, asked=asked)
