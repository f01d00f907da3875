"""Checkpoints in a real S3 server: in the background, collected, fenced, and through an outage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.servers.swift import S3Server, SwiftServers, swift_folder
from tests.unit.training.fakes import TorchEngine, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.storage import Location
from udt_cluster.training import StorageCheckpoints, SupersededError, TrainingState

pytestmark = [pytest.mark.component, pytest.mark.s3]

REPOSITORY = Path(__file__).resolve().parents[3]


class Attempt(StorageCheckpoints):
    """One attempt on one rank, with what it warns of."""

    def __init__(self, root: Location, number: int) -> None:
        self.warnings = list[str]()
        super().__init__(root, run_id="r", attempt=number, rank=0, world_size=1, keep=0, warn=self.warnings.append)

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self.catalog.committed()]


def _engine(seed: int = 0) -> TorchEngine:
    return TorchEngine(tiny_net(seed=seed), TrainConfig())


def _states(*scores: float) -> Iterator[TrainingState]:
    state = TrainingState()
    for epoch, score in enumerate(scores, start=1):
        state = state.after_epoch(step=10 * epoch, metrics={"val_dice": score})
        yield state


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServers]:
    """Servers of this file's own, which a test may stop."""
    servers = SwiftServers(swift_folder(REPOSITORY), tmp_path_factory.mktemp("swift"))
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def server(swift: SwiftServers) -> S3Server:
    return swift.start()


@pytest.fixture
def root(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Location:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Location.parse(f"s3://{server.make_bucket()}/checkpoints")


def test_saved_collected_and_resumed_in_s3(root: Location) -> None:
    engine = _engine(seed=3)
    first = Attempt(root, StorageCheckpoints.next_attempt(root))
    assert first.restore(engine) is None
    for state in _states(0.5, 0.9, 0.4, 0.3):
        first.save(engine, state, kind="epoch")
    first.finish(engine)
    first.save(engine, state.within_epoch(step=45, sums={"loss": 0.25}, seconds=1.0), kind="time")
    first.finish(engine)
    assert first.steps == [45, 20]
    second, other = Attempt(root, StorageCheckpoints.next_attempt(root)), _engine(seed=4)
    resumed = second.restore(other)
    assert resumed is not None
    assert (resumed.step, resumed.epoch, resumed.partial and resumed.partial.sums) == (45, 4, {"loss": 0.25})
    ours, theirs = other.module.state_dict(), engine.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    first.save(engine, state, kind="epoch")
    with pytest.raises(SupersededError):
        first.finish(engine)
    assert second.steps == [45, 20]
    assert [first.warnings, second.warnings] == [[], []]
    for attempt in (first, second):
        attempt.close()


def test_an_outage_of_the_storage_delays_a_checkpoint_and_no_training(
    root: Location, swift: SwiftServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "2")
    engine, attempt = _engine(), Attempt(root, 0)
    attempt.restore(engine)
    before, best, after = _states(0.5, 0.9, 0.4)
    attempt.save(engine, before, kind="epoch")
    attempt.settle(engine)
    swift.stop()
    attempt.save(engine, best, kind="epoch")
    attempt.settle(engine)
    assert "checkpoint step-00000020-a0 could not be written" in attempt.warnings[0]
    swift.start()
    attempt.save(engine, after, kind="epoch")
    attempt.finish(engine)
    assert attempt.steps == [30, 20]
    assert attempt.catalog.best().step == 20
    assert len(attempt.warnings) == 1
    attempt.close()
