"""What a cluster holds of its machine: processes, ports, shared memory, folders, placement groups."""

import getpass
import json
import re
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import CommandLine

# Ray keeps these for the life of a cluster: for the Train tab of its dashboard, for its autoscaler, and idle workers.
STAYS = {"ray::TrainStateActor", "ray::_AutoscalingCoordinatorActor", "ray::IDLE"}

CACHES = {f"torchinductor_{getpass.getuser()}"}


def title(process: psutil.Process) -> str:
    """How the process calls itself; nothing once it is dead."""
    try:
        return " ".join(process.cmdline()).strip()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def members(home: Path) -> list[psutil.Process]:
    """Everything that the home's Ray head has started, whoever its parent is now."""
    url = json.loads((home / "local.json").read_text())["ray"]["url"]
    mark = ("UDT_LOCAL_INSTANCE", url.rpartition(":")[2])
    return [process for process in psutil.process_iter() if mark in environment_of(process).items()]


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Empty for a process that is gone, or is somebody else's."""
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except psutil.Error:
        return {}


def asked(udt: CommandLine, path: str) -> Any:
    """What Ray's dashboard answers."""
    url = json.loads((udt.home / "local.json").read_text())["ray"]["url"]
    token = (udt.home / "ray-token").read_text().strip()
    request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


@dataclass(frozen=True)
class Footprint:
    """Counts; idle workers aside."""

    processes: Counter[str]
    ports: int
    shared_memory: frozenset[str]
    folders: frozenset[str]
    placement_groups: int

    def added(self, before: "Footprint") -> list[str]:
        """What is there now and was not before."""
        more = [f"process {name}" for name in (self.processes - before.processes).elements()]
        more += [f"/dev/shm/{name}" for name in sorted(self.shared_memory - before.shared_memory)]
        more += [f"folder {name}" for name in sorted(self.folders - before.folders)]
        more += ["a port"] * (self.ports - before.ports)
        return more + ["a placement group"] * (self.placement_groups - before.placement_groups)


def footprint(udt: CommandLine) -> Footprint:
    """Count what the cluster of this home holds now."""
    held = [process for process in members(udt.home) if title(process) not in STAYS]
    groups = asked(udt, "/api/v0/placement_groups?limit=1000")["data"]["result"]["result"]
    pids = {process.pid for process in members(udt.home)}
    return Footprint(
        processes=Counter(re.sub(r"\d+", "N", title(process))[:60] for process in held),
        ports=sum(_listening(process) for process in held),
        shared_memory=frozenset(path.name for path in Path("/dev/shm").iterdir() if _is_of(path, pids)),
        folders=frozenset(path.name for path in (udt.home / "tmp").iterdir() if path.name not in CACHES),
        placement_groups=sum(group["state"] != "REMOVED" for group in groups),
    )


def _is_of(path: Path, pids: set[int]) -> bool:
    """Whether one of these processes, or one that is dead, made the object: others' tests make some meanwhile."""
    numbers = {int(number) for number in re.findall(r"\d+", path.name)}
    living = {number for number in numbers if psutil.pid_exists(number)}
    return not living or bool(living & pids)


def _listening(process: psutil.Process) -> int:
    try:
        return sum(connection.status == psutil.CONN_LISTEN for connection in process.net_connections("tcp"))
    except psutil.Error:
        return 0
