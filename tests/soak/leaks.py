"""What a lab holds on to: processes, ports, shared memory, files, placement groups; before a job and after it."""

import contextlib
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.hosts.lab import Lab
from tests.hosts.network import Host

# What belongs to a job, and to nothing else: none of it may be there when the job has ended.
_JOBS_OWN = re.compile(
    r"RayTrainWorker|TrainController|udt_cluster\.cluster\.driver|JobSupervisor|multiprocessing\.spawn"
)
_SLACK = 1.25
"""Files of Ray's daemons: idle workers come and go, and each is a few connections."""


@dataclass(frozen=True)
class Holdings:
    """What is held, over all hosts.

    Attributes:
        job_processes: Processes of a job: ranks, controllers, drivers, loaders.
        ports: Listening sockets.
        shared_memory: Files in /dev/shm.
        shared_megabytes: Their size.
        files: Open files of the services and of Ray's daemons.
        placement_groups: That reserve something.
    """

    job_processes: int
    processes: int
    ports: int
    shared_memory: int
    shared_megabytes: int
    files: int
    placement_groups: int


def holdings(lab: Lab) -> Holdings:
    """What is held now."""
    hosts = [host for host in lab.network.hosts if host.is_up]
    processes = [process for host in hosts for process in host.processes()]
    shared = [file for host in hosts for file in host.path("/dev/shm").rglob("*") if file.is_file()]
    return Holdings(
        job_processes=sum(len(_named(host)) for host in hosts),
        processes=len(processes),
        ports=sum(_listening(host) for host in hosts),
        shared_memory=len(shared),
        shared_megabytes=sum(_size(file) for file in shared) >> 20,
        files=sum(_files(process) for process in processes),
        placement_groups=len(lab.placement_groups()),
    )


def settled(lab: Lab, *, seconds: float) -> Holdings:
    """What is held once nothing of a job is left and Ray has ended its idle workers, or after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        now = holdings(lab)
        if (now.job_processes == 0 and now.placement_groups == 0) or time.monotonic() > end:
            return now
        time.sleep(2)


def leaked(before: Holdings, after: Holdings) -> list[str]:
    """What there is more of than there was, in words."""
    found = [
        f"{name}: {count} after the job has ended"
        for name, count in (("processes", after.job_processes), ("placement groups", after.placement_groups))
        if count
    ]
    earlier, later = asdict(before), asdict(after)
    return found + [
        f"{name}: {earlier[name]} before, {later[name]} after"
        for name in ("processes", "ports", "shared_memory", "files")
        if later[name] > earlier[name] * _SLACK
    ]


def _named(host: Host) -> list[psutil.Process]:
    return [process for process in host.processes() if _JOBS_OWN.search(_title(process))]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def _listening(host: Host) -> int:
    return len(host.command("ss", "--listening", "--tcp", "--no-header", "--numeric").splitlines())


def _files(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return process.num_fds()
    return 0


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_blocks * 512
    return 0
