"""The embedded target: one Ray head and one MLflow server on loopback ports of this machine.

Both are started when a command needs them, reused by the next, and stopped by `udt-cluster down`. Each runs in a
process group of its own, whose id is kept in `$UDT_HOME/local.json`; nothing else is ever signalled.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.home import read_state, udt_home, write_state
from udt_cluster.errors import TargetUnreachableError, TrackingUnreachableError

_STATE = "local.json"
_LONGEST_SOCKET_FOLDER = 38  # Ray appends session_<date>_<pid>/sockets/plasma_store; a socket's path ends at 107 bytes
_START_SECONDS = 90
_ADDRESS = "127.0.0.2"  # Ray replaces 127.0.0.1 by an address that other machines reach; this one it keeps
_MARK = "UDT_LOCAL_INSTANCE"  # inherited by all that Ray starts, drivers of jobs too, which lead sessions of their own


def ensure(target: Target, *, need_ray: bool = True) -> Target:
    """Start what is not running and return the target with its addresses filled in.

    Raises:
        TargetUnreachableError, TrackingUnreachableError: a server did not come up; the message has its log's end.
    """
    home = udt_home()
    with _locked(home / "local.lock"):
        state = read_state(_STATE)
        if not _serves(state, "mlflow"):
            _end_orphans(state.get("mlflow"))
            state["mlflow"] = _start_mlflow(home)
            state["tracking"] = state["mlflow"]["url"]
            write_state(_STATE, state)
        if need_ray and not _serves(state, "ray"):
            _end_orphans(state.get("ray"))
            state["ray"] = _start_ray(home)
            write_state(_STATE, state)
    _wait(state["mlflow"], "/health", {}, TrackingUnreachableError)
    if need_ray:
        _wait(state["ray"], "/api/version", _bearer(token_path()), TargetUnreachableError)
    return _addresses(target, state)


def running(target: Target) -> Target | None:
    """The target's addresses if its Ray head is alive; nothing is started."""
    state = read_state(_STATE)
    return _addresses(target, state) if _serves(state, "ray") and _serves(state, "mlflow") else None


def known(target: Target) -> Target:
    """The target with the addresses of what is alive, and its storage in any case; nothing is started."""
    state = read_state(_STATE)
    alive = {name: state[name] if _serves(state, name) else None for name in ("ray", "mlflow")}
    return replace(
        target,
        jobs_api=alive["ray"] and alive["ray"]["url"],
        tracking=alive["mlflow"] and alive["mlflow"]["url"],
        storage=target.storage or str(default_storage()),
        token_path=str(token_path()),
        ray_address=alive["ray"] and alive["ray"].get("address"),
    )


def _addresses(target: Target, state: dict[str, Any]) -> Target:
    return replace(
        target,
        jobs_api=state.get("ray", {}).get("url"),
        tracking=state["mlflow"]["url"],
        storage=target.storage or str(default_storage()),
        token_path=str(token_path()),
        ray_address=state.get("ray", {}).get("address"),
    )


def default_storage() -> Path:
    """Where the local target keeps data sets, records and checkpoints unless `UDT_STORAGE` says otherwise."""
    return udt_home() / "store"


def token_path() -> Path:
    """File with the token of the local Ray head, made on first use with mode 0600."""
    path = udt_home() / "ray-token"
    if not path.exists():
        scratch = path.with_name(f".ray-token.{os.getpid()}")
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_hex(32))
        scratch.replace(path)
    return path


def down() -> list[str]:
    """Stop both servers and everything that they started.

    Returns:
        What was stopped, one line each.
    """
    home = udt_home()
    with _locked(home / "local.lock"):
        state = read_state(_STATE)
        stopped = []
        for name, label in (("ray", "Ray"), ("mlflow", "MLflow")):
            server: dict[str, Any] = state.get(name, {})
            if _alive(server):
                _end(server)
                stopped.append(f"{label} at {server['url']} (process group {server['pid']})")
            else:
                stopped += _end_orphans(server)
        shutil.rmtree(_ray_folder(home), ignore_errors=True)
        write_state(_STATE, {})
    return stopped


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_ray(home: Path) -> dict[str, Any]:
    port, head = free_port(), f"{_ADDRESS}:{free_port()}"
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path()),
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
        _MARK: str(port),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"):
        environment.pop(variable, None)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port", head.rpartition(":")[2], "--node-ip-address", _ADDRESS),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(port), "--disable-usage-stats"),
        # The defaults are fixed: the second user of a host would have a cluster that takes no job.
        *("--dashboard-agent-listen-port", str(free_port()), "--metrics-export-port", str(free_port())),
        *("--ray-client-server-port", str(free_port())),
        *("--object-store-memory", str(1 << 30), "--temp-dir", str(_ray_folder(home))),
    ]
    return {**_spawn(command, environment, home / "logs" / "ray.log", port), "address": head}


def _start_mlflow(home: Path) -> dict[str, Any]:
    from udt_cluster.tracking.server import server_command

    port = free_port()
    command, environment = server_command(home, port)
    return _spawn(command, {**os.environ, **environment, _MARK: str(port)}, home / "logs" / "mlflow.log", port)


def _spawn(command: list[str], environment: dict[str, str], log: Path, port: int) -> dict[str, Any]:
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    started = _start_time(process.pid)
    return {"pid": process.pid, "started": started, "url": f"http://127.0.0.1:{port}", "log": str(log)}


def _wait(
    server: dict[str, Any],
    path: str,
    headers: dict[str, str],
    error: type[TargetUnreachableError | TrackingUnreachableError],
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if answers(server["url"] + path, headers):
            return
        if not _alive(server) and not _members(server):
            break
        time.sleep(0.2)
    tail = "\n".join(Path(server["log"]).read_text(errors="replace").splitlines()[-12:])
    raise error(f"the local server at {server['url']} did not come up; its log {server['log']} ends with\n{tail}")


def answers(url: str, headers: dict[str, str], timeout: float = 3) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _bearer(path: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {path.read_text().strip()}"}


def _ray_folder(home: Path) -> Path:
    """A folder short enough for Ray's sockets: in the home, or else one of this user's in the temporary folder."""
    folder = home / "ray"
    if len(str(folder)) <= _LONGEST_SOCKET_FOLDER:
        return folder
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / f"udt-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _start_time(pid: int) -> str | None:
    """Clock ticks at which the process began, which tells it from a later one of the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _alive(server: dict[str, Any] | None) -> bool:
    if not server:
        return False
    _reap(server["pid"])
    return bool(_start_time(server["pid"]) == server["started"])


def _serves(state: dict[str, Any], name: str) -> bool:
    """Whether a server is up: what it was started as lives, or has died and left a server that answers."""
    server = state.get(name)
    if not server or _alive(server):
        return bool(server)
    path, headers = ("/health", {}) if name == "mlflow" else ("/api/version", _bearer(token_path()))
    return answers(server["url"] + path, headers)


def _reap(pid: int) -> None:
    """Collect the server's exit status when it is our own child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _end(server: dict[str, Any]) -> None:
    """Ask the server and all that it started to end, and after 5 s end them."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        members = _members(server)
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while members and time.monotonic() < deadline:
            _reap(server["pid"])
            members = _members(server)
            time.sleep(0.1)
        if not members:
            return


def _end_orphans(server: dict[str, Any] | None) -> list[str]:
    """End what a head that died had started: it would hold ports, memory and cores. Its pid may be another's by now."""
    orphans = _members(server) if server else []
    if server and orphans:
        _end(server)
        noun = "process" if len(orphans) == 1 else "processes"
        return [f"{len(orphans)} {noun} of a server at {server['url']} that had died"]
    return []


def _members(server: dict[str, Any]) -> list[int]:
    """Processes that carry the server's mark, and, while it lives, those of its group."""
    leads = _start_time(server["pid"]) == server["started"]
    mark = f"{_MARK}={urlsplit(server['url']).port}".encode()
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if state != "Z" and (marked or (leads and int(group) == server["pid"])):
            members.append(int(entry.name))
    return members


def free_port() -> int:
    """A loopback port that nothing listens on, outside the range that Ray gives its workers."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not 10002 <= port <= 19999:
            return port
