"""The hosts that other tests rely on: reached, cut off, slowed, switched off, and gone afterwards."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.hosts.network import Host, Network
from tests.hosts.proxy import TcpProxy

pytestmark = [pytest.mark.component, pytest.mark.hosts]
PORT = 8000


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


@pytest.fixture
def server(network: Network, tmp_path: Path) -> Host:
    """A host that serves files of the folder that all share."""
    host = network.add("server")
    serve(host, tmp_path)
    return host


def serve(host: Host, folder: Path) -> None:
    command = [sys.executable, "-m", "http.server", "--bind", host.address, "--directory", str(folder), str(PORT)]
    process = host.start(command, log=folder / "server.log")
    process.wait_until(lambda: answers(host), seconds=30)


def answers(host: Host, *, port: int = PORT, address: str = "") -> bool:
    try:
        with urllib.request.urlopen(f"http://{address or host.address}:{port}", timeout=1.5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_hosts_reach_each_other_and_nothing_else(network: Network, server: Host) -> None:
    client = network.add("client")
    code = f"import urllib.request as u; print(u.urlopen('http://{server.address}:{PORT}', timeout=5).status)"
    assert client.run(sys.executable, "-c", code).stdout == "200\n"
    assert client.run("hostname").stdout == "client\n"
    assert client.run("ip", "route").stdout.splitlines()[0].startswith(network.machine.rpartition(".")[0])
    assert "default" not in client.run("ip", "route").stdout


def test_a_cut_cable_swallows_packets_until_it_is_mended(server: Host) -> None:
    server.cut()
    assert not answers(server)
    server.mend()
    assert answers(server)


def test_a_host_without_power_keeps_its_disk_and_its_address(server: Host, tmp_path: Path) -> None:
    server.path("/tmp/kept").write_text("kept")
    before = server.processes("http.server")
    assert len(before) == 1
    server.kill()
    assert not psutil.pid_exists(before[0].pid)
    assert not answers(server)
    server.boot()
    assert server.path("/tmp/kept").read_text() == "kept"
    assert server.processes() == []
    serve(server, tmp_path)
    assert answers(server)


def test_a_slow_cable_takes_its_time(server: Host, tmp_path: Path) -> None:
    (tmp_path / "megabyte").write_bytes(bytes(1 << 20))
    seconds = []
    for rate in (None, "4mbit"):
        if rate:
            server.slow(rate)
        began = time.monotonic()
        urllib.request.urlopen(f"http://{server.address}:{PORT}/megabyte", timeout=30).read()
        seconds.append(time.monotonic() - began)
    server.full_speed()
    assert seconds[1] > 1.5, "2 s at 4 Mbit/s"
    assert seconds[0] < seconds[1] / 2


def test_a_disk_of_its_own_can_be_full(network: Network, tmp_path: Path) -> None:
    host = network.add("small", disk="4m")
    filler = host.fill_disk()
    assert "No space left" in host.run("cp", "/etc/services", "/tmp/more").stderr
    filler.unlink()
    assert host.run("cp", "/etc/services", "/tmp/more").returncode == 0
    assert not Path("/tmp/more").exists()


def test_a_proxy_breaks_connections_and_delays_them(network: Network, server: Host) -> None:
    proxy = TcpProxy(network.machine, (server.address, PORT))
    assert answers(server, address=network.machine, port=proxy.port)
    proxy.delay = 0.2
    began = time.monotonic()
    assert answers(server, address=network.machine, port=proxy.port)
    assert time.monotonic() - began > 0.4, "there and back"
    proxy.close()
    assert not answers(server, address=network.machine, port=proxy.port)


def test_a_network_goes_with_the_process_that_made_it_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.hosts.network import Network\n"
        f"network = Network(Path({str(tmp_path)!r})).__enter__(); host = network.add('alone')\n"
        "process = host.start(['sleep', '600'], log=network.folder / 'log')\n"
        "print(network.name, host.pid, flush=True); time.sleep(600)"
    )
    made = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert made.stdout is not None
    name, pid = made.stdout.readline().split()
    assert psutil.pid_exists(int(pid))
    assert name in Path("/proc/net/dev").read_text()
    made.kill()
    made.communicate()
    end = time.monotonic() + 10
    while (psutil.pid_exists(int(pid)) or name in Path("/proc/net/dev").read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(int(pid))
    assert name not in Path("/proc/net/dev").read_text()
