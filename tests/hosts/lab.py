"""A lab's cluster on test hosts: a Ray head and workers, S3 and MLflow, each on a host of its own."""

import contextlib
import json
import os
import secrets
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.hosts.network import Host, Network
from tests.hosts.proxy import TcpProxy
from tests.servers.mlflow import MlflowServer
from tests.servers.process import ServerProcess
from tests.servers.swift import S3Server, SwiftServers, swift_folder

REPOSITORY = Path(__file__).resolve().parents[2]
PORT, DASHBOARD, REDIS = 6380, 8265, 6379
_BIN = Path(sys.executable).parent
_OURS = ("AWS_", "UDT_", "RAY_", "MLFLOW_")
# Ray finds out in ten to thirty seconds that a node is gone, half of its own time, and waits for a busy machine.
_QUICK = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}


class RayNode:
    """`ray start --block` on a host, the head's or a worker's."""

    def __init__(self, host: Host, options: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.host, self.environment, self.log = host, environment, log
        self._options = list(options)
        self._process: ServerProcess | None = None

    def start(self) -> None:
        """Start it; the host is booted if it was killed."""
        if not self.host.is_up:
            self.host.boot()
        command = [str(_BIN / "ray"), "start", "--block", "--disable-usage-stats", *self._options]
        self._process = self.host.start(command, log=self.log, env=self.environment)

    def stop(self) -> None:
        """End Ray on this host and all that Ray runs there; the host lives on."""
        for process in self.host.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process is not None:
            self._process.stop()
            self._process = None

    def revive(self) -> bool:
        """Start Ray again if it ended without `stop`, as a service of the system would; whether that was so."""
        if self._process is None or not self.host.is_up or not self._process.has_ended:
            return False
        self.stop()
        self.start()
        return True

    def training_workers(self) -> list[psutil.Process]:
        """The ranks of a training that run there."""
        return self.host.processes("RayTrainWorker")


class Redis:
    """Where Ray's head keeps its tables, so that a new head knows what the old one knew."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.address = host, f"{host.address}:{REDIS}"
        self._command = ["redis-server", "--bind", host.address, "--port", str(REDIS), "--save", "", "--protected-mode"]
        self._command += ["no", "--dir", str(folder)]
        self._log = folder / "redis.log"

    def start(self) -> None:
        """Start it."""
        self.process = self.host.start(self._command, log=self._log)
        self.process.wait_until(lambda: "Ready to accept" in self._log.read_text(), seconds=30)


class Lab:
    """The hosts `head`, `worker1`... and `services` (S3, MLflow and, if asked for, Redis), all running.

    Args:
        network: Where.
        workers: How many.
        redis: Keep the head's tables in Redis, so that a new head knows the nodes and jobs of the old one.
        proxied: Jobs reach S3 through `proxy`.
        disk: Size of the workers' disks, in memory; by default they are as large as this machine's.

    Attributes:
        server: S3 as it is.
        s3: S3 as jobs see it.
    """

    def __init__(
        self, network: Network, *, workers: int = 2, redis: bool = False, proxied: bool = False, disk: str = ""
    ) -> None:
        self.network, self.folder = network, network.folder
        self.services = network.add("services")
        self.token = self.folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        at, prefix = self.services.address, self.services.prefix
        self.swift = SwiftServers(swift_folder(REPOSITORY), self.folder / "swift", address=at, prefix=prefix)
        self.mlflow = MlflowServer(self.folder / "mlflow", port=5000, address=at, prefix=prefix)
        self.redis = Redis(self.services, self.folder) if redis else None
        self.server = self.start_s3()
        self.storage = f"s3://{self.server.make_bucket()}/lab"
        port = urlsplit(self.server.endpoint).port or 0
        self.proxy = TcpProxy(network.machine, (at, port))
        through_proxy = replace(self.server, endpoint=f"http://{network.machine}:{self.proxy.port}")
        self.s3 = through_proxy if proxied else self.server
        self._start_ray(workers, disk)
        self.start_mlflow()
        self.wait_for_nodes(self.head.host, *(worker.host for worker in self.workers))

    def start_s3(self) -> S3Server:
        """Start S3, with what it held before."""
        return self.swift.start()

    def start_mlflow(self) -> None:
        """Start MLflow, with what it held before."""
        self.mlflow.start()

    def keep_logs(self, folder: Path) -> None:
        """Copy what Ray's daemons wrote on each host; a host's own disk goes with it."""
        for host in self.network.hosts:
            for logs in host.path("/tmp/ray").glob("session_2*/logs") if host.is_up else ():
                shutil.copytree(logs, folder / host.name / logs.parent.name, symlinks=True, dirs_exist_ok=True)

    def close(self) -> None:
        """End everything."""
        for host in self.network.hosts:
            host.kill()
        self.swift.stop()
        self.mlflow.stop()
        self.proxy.close()

    def _start_ray(self, workers: int, disk: str) -> None:
        head = self.network.add("head")
        self.head = RayNode(head, self._head_options(head), self._node_environment(), self.folder / "head.log")
        if self.redis is not None:
            self.redis.start()
            self.head.environment["RAY_REDIS_ADDRESS"] = self.redis.address
        self.head.start()
        self.workers: list[RayNode] = []
        for number in range(1, workers + 1):
            host = self.network.add(f"worker{number}", disk=disk)
            options = ["--address", f"{head.address}:{PORT}", "--node-ip-address", host.address, *_small(cores=1)]
            self.workers.append(RayNode(host, options, self._node_environment(), self.folder / f"{host.name}.log"))
        self.wait_for_nodes(head)
        for worker in self.workers:
            worker.start()

    def _head_options(self, host: Host) -> list[str]:
        """Without cores: workers train, the head does not."""
        return [
            *("--head", "--node-ip-address", host.address, "--port", str(PORT), *_small(cores=0)),
            *("--dashboard-host", host.address, "--dashboard-port", str(DASHBOARD)),
        ]

    def _node_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {
            **inherited,
            **self.s3.environment,
            **_QUICK,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }

    @property
    def jobs_api(self) -> str:
        """Address of Ray's dashboard."""
        return f"http://{self.head.host.address}:{DASHBOARD}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client on this machine here."""
        return {
            **self.s3.environment,
            "UDT_JOBS_API": self.jobs_api,
            "MLFLOW_TRACKING_URI": self.mlflow.uri,
            "UDT_STORAGE": self.storage,
            "RAY_AUTH_TOKEN_PATH": str(self.token),
        }

    def nodes(self) -> list[str]:
        """Addresses of the nodes that Ray believes to be alive; none while the head does not answer."""
        return [node["node_ip"] for node in self._listed("nodes") if node["state"] == "ALIVE"]

    def placement_groups(self) -> list[str]:
        """Ids of the groups that reserve resources."""
        return [
            group["placement_group_id"] for group in self._listed("placement_groups") if group["state"] != "REMOVED"
        ]

    def _listed(self, what: str) -> list[dict[str, Any]]:
        authorization = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(f"{self.jobs_api}/api/v0/{what}?limit=1000", headers=authorization)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                listed: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        except (urllib.error.URLError, OSError):
            return []
        return listed

    def revive(self) -> list[str]:
        """Start Ray where it ended by itself, as the hosts' own services would; the names of those hosts."""
        return [node.host.name for node in (self.head, *self.workers) if node.revive()]

    def wait_for_nodes(self, *hosts: Host, seconds: float = 240) -> None:
        """Wait until Ray knows these hosts as living nodes, and no others."""
        wanted, end = {host.address for host in hosts}, time.monotonic() + seconds
        while set(self.nodes()) != wanted:
            self.revive()  # Ray itself gives up where a busy machine takes more than 30 s to start it
            if time.monotonic() > end:
                raise RuntimeError(f"nodes after {seconds:.0f} s: {self.nodes()}\n{self._last_words()}")
            time.sleep(0.5)

    def _last_words(self) -> str:
        logs = [node.log for node in (self.head, *self.workers) if node.log.exists()]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


def _small(*, cores: int) -> list[str]:
    """Several nodes share one machine."""
    return ["--num-cpus", str(cores), "--object-store-memory", str(100 << 20)]
