"""What a soak does to a lab: every fault, how it is undone, and where it strikes."""

import contextlib
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.hosts.lab import Lab, RayNode
from tests.hosts.network import Host

Undo = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: For the report.
        strike: Does it; returns where (nowhere: there was nobody to strike), and how it is undone.
        lasts: Seconds until it is undone.
    """

    name: str
    strike: Callable[[Lab, random.Random], tuple[str, Undo]]
    lasts: float = 0.0


def _signalled(number: signal.Signals) -> Callable[[Lab, random.Random], tuple[str, Undo]]:
    """A signal for one rank of the training."""

    def strike(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
        ranks = [(node, process) for node in lab.workers for process in node.training_workers()]
        if not ranks:
            return "", _nothing
        node, process = dice.choice(ranks)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        return node.host.name, _nothing

    return strike


def _daemon_killed(title: str, choose: Callable[[Lab, random.Random], RayNode]) -> Callable[..., tuple[str, Undo]]:
    """One of Ray's own processes dies; the service of its host starts Ray again."""

    def strike(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
        node = choose(lab, dice)
        for process in node.host.processes(title):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return node.host.name, _nothing

    return strike


def _power(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    node = dice.choice(lab.workers)
    node.host.kill()
    return node.host.name, node.start


def _head_again(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    lab.head.stop()
    return lab.head.host.name, lab.head.start


def _cut(choose: Callable[[Lab, random.Random], Host]) -> Callable[..., tuple[str, Undo]]:
    def strike(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
        host = choose(lab, dice)
        host.cut()
        return host.name, host.mend

    return strike


def _slow(choose: Callable[[Lab, random.Random], Host], rate: str) -> Callable[..., tuple[str, Undo]]:
    def strike(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
        host = choose(lab, dice)
        host.slow(rate)
        return f"{host.name}, {rate}", host.full_speed

    return strike


def _mlflow(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    lab.mlflow.stop()
    return lab.services.name, lab.start_mlflow


def _s3(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    lab.swift.stop()
    return lab.services.name, lab.start_s3


def _resets(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    broken = lab.proxy.reset()
    return f"{broken} connections" if broken else "", _nothing


def _delay(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    lab.proxy.delay = 0.1
    return "0.1 s a packet", lambda: setattr(lab.proxy, "delay", 0.0)


def _disk(lab: Lab, dice: random.Random) -> tuple[str, Undo]:
    node = dice.choice(lab.workers)
    filler = node.host.fill_disk()
    return node.host.name, lambda: filler.unlink(missing_ok=True)


def _nothing() -> None:
    """There is nothing to undo."""


def _worker(lab: Lab, dice: random.Random) -> RayNode:
    return dice.choice(lab.workers)


def _head(lab: Lab, dice: random.Random) -> RayNode:
    return lab.head


def _worker_host(lab: Lab, dice: random.Random) -> Host:
    return dice.choice(lab.workers).host


def _services(lab: Lab, dice: random.Random) -> Host:
    return lab.services


FAULTS = (
    Fault("worker killed (SIGKILL)", _signalled(signal.SIGKILL)),
    Fault("worker stopped (SIGSTOP)", _signalled(signal.SIGSTOP)),
    Fault("worker told to go (SIGTERM)", _signalled(signal.SIGTERM)),
    Fault("worker host without power", _power, lasts=25),
    Fault("worker host cut off", _cut(_worker_host), lasts=25),
    Fault("worker host slow", _slow(_worker_host, "2mbit"), lasts=30),
    Fault("raylet killed", _daemon_killed("raylet/raylet", _worker)),
    Fault("disk of a worker host full", _disk, lasts=20),
    Fault("head killed, started again", _head_again, lasts=5),
    Fault("GCS killed", _daemon_killed("gcs_server", _head)),
    Fault("MLflow away", _mlflow, lasts=30),
    Fault("S3 away", _s3, lasts=20),
    Fault("S3 and MLflow cut off", _cut(_services), lasts=20),
    Fault("S3 and MLflow slow", _slow(_services, "4mbit"), lasts=30),
    Fault("S3 connections reset", _resets),
    Fault("S3 delayed", _delay, lasts=30),
)


def by_turns(dice: random.Random) -> "list[Fault]":
    """Every fault once, in random order."""
    return dice.sample(FAULTS, len(FAULTS))
