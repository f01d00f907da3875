"""The engine with real DeepSpeed, in processes of its own: one rank, and two over gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LIMIT_SECONDS = 240
Found = dict[str, list[dict[str, Any]]]
"""Scenario -> what each rank found."""


def launch(folder: Path, *scenarios: str, ranks: int, expect: int = 0) -> Found:
    """Run scenarios one after the other in processes that import DeepSpeed once; by scenario, what each rank found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    processes = [_start(scenarios, folder, rank=rank, ranks=ranks, port=port) for rank in range(ranks)]
    try:
        outputs = [process.communicate(timeout=LIMIT_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    assert codes == [expect] * ranks, "\n".join(output[-4000:] for output in outputs)
    names = [] if expect else scenarios
    return {name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(ranks)] for name in names}


def _start(scenarios: tuple[str, ...], folder: Path, *, rank: int, ranks: int, port: int) -> subprocess.Popen[str]:
    alone = {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE", "LOCAL_RANK"}}
    group = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.component.training.deepspeed_worker", str(folder), *scenarios],
        cwd=ROOT,
        env={**alone, **(group | address if ranks > 1 else {}), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deepspeed")


@pytest.fixture(scope="module")
def cut_on_one(folder: Path) -> None:
    launch(folder / "one", "killed", ranks=1, expect=-signal.SIGKILL)


@pytest.fixture(scope="module")
def on_two(folder: Path, cut_on_one: None) -> Found:
    return launch(folder / "two", "stages", "peers", "poisoned", "grown", ranks=2)


@pytest.fixture(scope="module")
def on_one(folder: Path, on_two: Found) -> Found:
    return launch(folder / "one", "whole", "resumed", "peers", "bf16", "wrong_folder", "other_size", ranks=1)


@pytest.mark.component
@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_fault_c5_two_ranks_cut_within_epochs_end_bit_for_bit_as_if_they_had_not_been(
    on_two: Found, stage: str
) -> None:
    for found in on_two["stages"]:
        whole, (stopped, lost, rest) = found[stage]["whole"], found[stage]["lives"]
        assert stopped["stopped"] == "PreemptedError: stopped at step 1: a notice; nothing is lost"
        assert lost["stopped"].startswith("Gone")
        assert rest["weights"] == whole["weights"]
        assert rest["epochs"] == [1, 2, 3]
        for name in ("val_dice", "train_loss"):
            assert rest[name] == whole[name]
        # Each step once but those that nobody had committed when all ranks were lost: at most the last one.
        assert stopped["samples"] + lost["samples"][:2] == whole["samples"][:3]
        assert rest["samples"] == whole["samples"][-len(rest["samples"]) :]
        assert 3 <= len(rest["samples"]) <= 6
        assert [rest["warnings"], rest["attempt"]] == [[], 2]
    assert len({found[stage]["lives"][2]["weights"] for found in on_two["stages"]}) == 1


@pytest.mark.component
def test_two_ranks_share_each_global_batch(on_two: Found) -> None:
    first, second = (found["0"]["whole"]["samples"] for found in on_two["stages"])
    for (epoch, mine), (same_epoch, theirs) in zip(first, second, strict=True):
        assert epoch == same_epoch
        assert len(mine) == len(theirs) == 4
        assert set(mine).isdisjoint(theirs)


@pytest.mark.component
def test_all_stages_learn_the_same(on_two: Found) -> None:
    by_stage = on_two["stages"][0]
    for stage in ("1", "2", "3"):
        assert by_stage[stage]["whole"]["train_loss"] == pytest.approx(by_stage["0"]["whole"]["train_loss"], rel=1e-4)


def _global_batches(ranks: list[dict[str, Any]]) -> list[tuple[int, list[int]]]:
    """(epoch, sorted samples) of each step over all ranks."""
    steps = zip(*(rank["samples"] for rank in ranks), strict=True)
    return [(parts[0][0], sorted(sample for _, samples in parts for sample in samples)) for parts in steps]


@pytest.mark.component
def test_fault_w1_one_rank_goes_on_within_an_epoch_at_stage_0_and_is_refused_at_stage_1(
    on_two: Found, on_one: Found
) -> None:
    (found,) = on_one["other_size"]
    whole = [rank["0"]["whole"] for rank in on_two["stages"]]
    rest = found["stage_0"]
    assert rest["epochs"] == [1, 2, 3]
    assert _global_batches([rest]) == _global_batches(whole)[-len(rest["samples"]) :]
    assert rest["train_loss"][0] == whole[0]["train_loss"][0]
    assert rest["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=0.1)  # dropout and statistics are per rank
    assert found["stage_1"].startswith("VersionError: checkpoint step-0000000")
    assert "was written by 2 workers" in found["stage_1"]
    assert "set resources.workers: 2" in found["stage_1"]


@pytest.mark.component
def test_fault_w1_two_ranks_go_on_where_one_was_killed_with_the_same_global_batches(
    on_two: Found, on_one: Found
) -> None:
    rest = on_two["grown"]
    assert _global_batches(rest) == _global_batches(on_one["whole"])[-len(rest[0]["samples"]) :]
    assert [found["epochs"] for found in rest] == [[1, 2, 3, 4]] * 2
    assert rest[0]["weights"] == rest[1]["weights"]


@pytest.mark.component
def test_fault_c5_killed_within_epoch_3_it_ends_as_if_nothing_had_happened(on_one: Found) -> None:
    (expected,), (found,) = on_one["whole"], on_one["resumed"]
    assert found["weights"] == expected["weights"]
    assert found["train_loss"] == expected["train_loss"]
    assert found["epochs"] == [1, 2, 3, 4]
    assert found["samples"] == expected["samples"][-len(found["samples"]) :]
    assert 3 <= len(found["samples"]) <= 6, "from the newest checkpoint that was complete"


@pytest.mark.component
@pytest.mark.parametrize("ranks", ["on_one", "on_two"])
def test_steps_are_those_of_plain_torch(request: pytest.FixtureRequest, ranks: str) -> None:
    for found in request.getfixturevalue(ranks)["peers"]:
        for stage, peer in found.items():
            for ours, theirs in peer["losses"]:
                assert ours == pytest.approx(theirs, rel=1e-5), (stage, peer)
            assert peer["largest_gap"] < 2e-5, (stage, peer)
            assert peer["lr"] == 0.02


@pytest.mark.component
def test_fault_f1_nan_on_one_rank_stops_all_before_the_step(on_two: Found, folder: Path) -> None:
    first, second = on_two["poisoned"]
    assert first == second
    message = first["error"]
    assert message.startswith("NonFiniteError: the loss is not finite at epoch 1, step ")
    samples = message.split("samples [")[1].split("]")[0].split(", ")
    assert "11" in samples
    assert len(samples) == 2  # the micro-batch that has it, not the global batch
    assert not list((folder / "two" / "poisoned").glob("step-*"))


@pytest.mark.component
def test_bf16_is_autocast_and_nothing_else_is_cast(on_one: Found) -> None:
    (found,) = on_one["bf16"]
    assert found["inside"] == ["torch.bfloat16"]
    assert found["logits"] == "torch.float32"
    assert found["weights"] == ["torch.float32"]
    assert found["losses"][-1] < 0.7 * found["losses"][0]


@pytest.mark.component
def test_deepspeeds_silent_fresh_start_is_an_error(on_one: Found) -> None:
    (found,) = on_one["wrong_folder"]
    assert found["error"] == "CorruptError: saved: there is no DeepSpeed checkpoint of stage 1 in it"
