"""Hosts on one machine: namespaces of their own, an address each, and a switch between them.

::

    with Network(folder) as network:
        server, client = network.add("server"), network.add("client")
        process = server.start(["python", "-m", "http.server", "--bind", server.address], log=folder / "server.log")
        server.cut()      # the cable is pulled
        server.kill()     # the power is gone; boot() brings it back with its disk

The machine itself is at the first address, so that the test reaches the hosts. Hosts reach each other and the machine,
and nothing else. Everything vanishes with the process that made it, killed or not.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType

import psutil

from tests.servers.process import ServerProcess

_REPOSITORY = Path(__file__).parents[2]
"""The code and its virtual environment, which may lie below the /tmp that each host has of its own."""
_INSIDE = [sys.executable, "-I", "-S", str(Path(__file__).with_name("inside.py"))]
_networks = count()


class Network:
    """A switch, and the hosts that hang on it.

    Attributes:
        folder: On every host at the same place; nothing else of the machine's /tmp is.
        machine: Address of the machine on which all this runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self.name = f"udt{os.getpid():x}n{next(_networks)}"
        self._subnet = _free_subnet()
        self.machine = self.address(1)

    def __enter__(self) -> "Network":
        self.switch = Namespace("switch", self.folder / "switch", self.folder)
        self.switch.boot()
        self.switch.command("ip", "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        self.switch.command("ip", "link", "set", "bridge", "up")
        self.plug("machine", self.name, os.getpid())
        _run("ip", "address", "add", f"{self.machine}/24", "dev", self.name)
        _run("ip", "link", "set", "dev", self.name, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for namespace in (*self.hosts, self.switch):
            namespace.kill()

    def address(self, number: int) -> str:
        """The address of that number."""
        return f"{self._subnet}.{number}"

    def add(self, name: str, *, disk: str = "", memory: str = "512m") -> "Host":
        """A new host, running.

        Args:
            name: Its name, at most 15 characters.
            disk: Size of its /tmp, such as `64m`, then in memory; by default a folder, as large as this machine's.
            memory: Size of its /dev/shm.
        """
        host = Host(name, self.folder / name, self.folder, disk=disk, memory=memory, network=self)
        host.address = self.address(10 + len(self.hosts))
        self.hosts.append(host)
        host.boot()
        return host

    def plug(self, port: str, interface: str, pid: int) -> None:
        """Lay a cable from a port of the switch to an interface of the namespace of process `pid`."""
        ends = [
            "ip",
            "link",
            "add",
            "name",
            port,
            "netns",
            str(self.switch.pid),
            "type",
            "veth",
            "peer",
            "name",
            interface,
        ]
        _run(*ends, "netns", str(pid))
        self.switch.command("ip", "link", "set", "dev", port, "master", "bridge", "up")


@dataclass
class Namespace:
    """Namespaces of its own, held by a pid 1 of its own.

    Attributes:
        disk: Size of a /tmp in memory; empty for a folder, which survives `kill` and `boot`.
        memory: Size of /dev/shm.
    """

    name: str
    folder: Path
    shared: Path
    disk: str = ""
    memory: str = "512m"
    pid: int = 0
    _started: list[ServerProcess] = field(default_factory=list)
    _holder: "subprocess.Popen[str] | None" = None

    def boot(self) -> None:
        """Start it."""
        assert self._holder is None, f"{self.name} is running"
        disk = self.folder / "tmp"
        disk.mkdir(parents=True, exist_ok=True)
        disk.chmod(0o1777)
        command = [*_INSIDE, "boot", self.name, str(disk), self.disk, self.memory, str(self.shared), str(_REPOSITORY)]
        # A child that was asked to die with its parent dies with the thread that started it: use the main thread.
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_killed_with_us)
        assert self._holder.stdout is not None
        answer = self._holder.stdout.readline()
        if not answer:
            raise RuntimeError(f"host {self.name} did not start: exit code {self._holder.wait()}")
        self.pid = int(answer)

    def kill(self) -> None:
        """End everything there at once, as when the power goes."""
        if self._holder is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
        self._holder, self.pid = None, 0
        while self._started:
            self._started.pop().stop()

    def command(self, *command: str) -> str:
        """Run a command of this machine in the network there; its output."""
        return _run("nsenter", "--target", str(self.pid), "--net", *command)


@dataclass
class Host(Namespace):
    """One host of a network."""

    address: str = ""
    network: Network = field(kw_only=True)

    @property
    def is_up(self) -> bool:
        """Whether it has power."""
        return self.pid != 0

    def boot(self) -> None:
        """Start it, with its address and with what was on its disk."""
        super().boot()
        self.network.plug(self.name, "eth0", self.pid)
        # The same card after a reboot: neighbours remember its hardware address.
        hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        self.command("ip", "link", "set", "dev", "eth0", "address", hardware)
        self.command("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.command("ip", "link", "set", "eth0", "up")

    @property
    def prefix(self) -> list[str]:
        """What to write before a command so that it runs on this host."""
        return [*_INSIDE, "enter", str(self.pid)]

    def start(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> ServerProcess:
        """Start a command on this host; it ends with the test."""
        self._started.append(ServerProcess([*self.prefix, *command], log=log, env=env))
        return self._started[-1]

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on this host to its end."""
        return subprocess.run(
            [*self.prefix, *command],
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def processes(self, text: str = "") -> list[psutil.Process]:
        """What runs on this host, or those of it whose command line contains a text; with ids of this machine."""
        return [process for process in self._all() if text in _title(process)]

    def _all(self) -> list[psutil.Process]:
        ours = _space_of(self.pid) if self.is_up else None
        if ours is None:
            return []
        return [one for one in psutil.process_iter() if _space_of(one.pid) == ours and one.pid != self.pid]

    def path(self, inside: str | Path) -> Path:
        """Where a path of this host is found from this machine."""
        return Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def cut(self) -> None:
        """Pull the cable: packets vanish, nobody is told."""
        self.network.switch.command("ip", "link", "set", "dev", self.name, "down")

    def mend(self) -> None:
        """Put the cable back."""
        self.network.switch.command("ip", "link", "set", "dev", self.name, "up")

    def slow(self, rate: str) -> None:
        """Limit what it sends and what it gets to a rate such as `2mbit`."""
        shape = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "400ms"]
        self.command("tc", "qdisc", "replace", "dev", "eth0", *shape)
        self.network.switch.command("tc", "qdisc", "replace", "dev", self.name, *shape)

    def full_speed(self) -> None:
        """End `slow`."""
        self.command("tc", "qdisc", "delete", "dev", "eth0", "root")
        self.network.switch.command("tc", "qdisc", "delete", "dev", self.name, "root")

    def fill_disk(self) -> Path:
        """Write into its /tmp until nothing fits any more; delete the file that is returned to end it.

        Only for a host with a disk of its own size: the default one is this machine's.
        """
        assert self.disk, f"{self.name} shares the disk of this machine; give it one: add({self.name!r}, disk='64m')"
        filler = self.path("/tmp/filler")
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                continue
        return filler


def hosts_are_missing() -> str | None:
    """Why hosts cannot be made here, or None."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("redis-server", "redis-server")):
        if not any((Path(folder) / program).exists() for folder in os.get_exec_path()):
            return f"{program} is not there; install it: apt-get install {package}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else None


def _free_subnet() -> str:
    """The start of addresses that no interface of this machine has; by process, so that two runs differ."""
    taken = {route.get("dst", "") for route in json.loads(_run("ip", "-json", "-4", "route", "show", "table", "all"))}
    for attempt in range(256):
        number = os.getpid() * 7 + attempt
        subnet = f"10.{64 + number // 256 % 64}.{number % 256}"
        if not any(route.startswith(f"{subnet}.") for route in taken):
            return subnet
    raise RuntimeError("no free subnet in 10.64.0.0/10")


def _space_of(pid: int) -> str | None:
    """Which process namespace a process lives in; None once it is dead."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _killed_with_us() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
