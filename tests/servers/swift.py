"""A real S3 server, on loopback or a test host: OpenStack Swift with its s3api, from a virtual environment of its own.

It checks signatures, ranges, multipart uploads and listings as S3 does. One device, one replica, no daemons beside the
four servers. About 3 seconds to start and 200 MB.
"""

import getpass
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.servers.process import ServerProcess, free_port

REGION = "us-east-1"
_USER, _SECRET = "test:tester", "testingsecret"
_STORES = ("account", "container", "object")
_PIPELINE = (
    "catch_errors proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo proxy-logging proxy-server"
)
# Listings come in small pages, as S3 may send them, so that tests see several without a thousand objects.
PAGE_KEYS = 100
_S3API = f"""use = egg:swift#s3api
location = {REGION}
s3_acl = no
dns_compliant_bucket_names = false
max_bucket_listing = {PAGE_KEYS}
multi_delete_concurrency = 8"""
_FILTERS = {
    "catch_errors": "use = egg:swift#catch_errors",
    "proxy-logging": "use = egg:swift#proxy_logging",
    "cache": "use = egg:swift#memcache",
    "listing_formats": "use = egg:swift#listing_formats",
    "bulk": "use = egg:swift#bulk",
    "s3api": _S3API,
    "tempauth": f"use = egg:swift#tempauth\nuser_{_USER.replace(':', '_')} = {_SECRET} .admin",
    "copy": "use = egg:swift#copy",
    "slo": "use = egg:swift#slo",
    "dlo": "use = egg:swift#dlo",
}
_HASHES = "[swift-hash]\nswift_hash_path_prefix = udt\nswift_hash_path_suffix = udt\n"
_POLICY = "[storage-policy:0]\nname = gold\ndefault = yes\n"
_ATTEMPTS = 3


@dataclass(frozen=True)
class S3Server:
    """How to reach the server."""

    endpoint: str
    access_key: str = _USER
    secret_key: str = _SECRET
    region: str = REGION

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables that lead here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def boto3(self, config: Any = None) -> Any:
        """A second client, for checking what the code under test did; with a botocore configuration, if need be."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=config,
        )

    def make_bucket(self) -> str:
        """The name of a new bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.boto3().create_bucket(Bucket=name)
        return name


def swift_folder(repository: Path) -> Path:
    """The folder of Swift's programs: of UDT_SWIFT_VENV, or of .venv-swift in the repository."""
    return Path(os.environ.get("UDT_SWIFT_VENV", repository / ".venv-swift")) / "bin"


class SwiftServers:
    """The four processes of one Swift, from `start` to `stop`; `start` again brings the same objects back.

    Args:
        programs: Folder of Swift's programs.
        state: Folder of its objects, settings and logs.
        address: To listen at.
        prefix: Written before each command, to start it on another host.
    """

    def __init__(self, programs: Path, state: Path, *, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self._programs, self._state, self._address, self.prefix = programs, state, address, list(prefix)
        self._running: list[ServerProcess] = []
        self._ports: dict[str, int] = {}

    def start(self) -> S3Server:
        """Start all and wait until S3 answers; other ports are tried when somebody takes one meanwhile.

        Raises:
            RuntimeError: it does not start; with the end of the log.
        """
        if self._ports:
            return self._launch()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._start(self._state / f"attempt-{attempt}")
            except RuntimeError:
                self.stop()
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """End all processes."""
        while self._running:
            self._running.pop().stop()

    def _start(self, state: Path) -> S3Server:
        self._folder, ports = state, {name: free_port() for name in (*_STORES, "proxy")}
        self._write_settings(state, ports)
        self._ports = ports
        try:
            return self._launch()
        except RuntimeError:
            self._ports = {}
            raise

    def _launch(self) -> S3Server:
        for name in self._ports:
            program, settings = self._programs / f"swift-{name}-server", self._folder / f"{name}.conf"
            command = [*self.prefix, program, settings]
            self._running.append(ServerProcess(command, log=self._folder / f"{name}.log", env=_quiet()))
        for server, (name, port) in zip(self._running, self._ports.items(), strict=True):
            path = "/healthcheck" if name == "proxy" else "/recon/version"
            server.wait_until(partial(_answers, f"http://{self._address}:{port}{path}"), seconds=120)
        return S3Server(f"http://{self._address}:{self._ports['proxy']}")

    def _write_settings(self, state: Path, ports: dict[str, int]) -> None:
        (state / "device" / "d1").mkdir(parents=True)
        (state / "swift.conf").write_text(_HASHES + _POLICY)
        for name in _STORES:
            self._make_ring(state / f"{name}.builder", ports[name])
            (state / f"{name}.conf").write_text(self._settings(name, ports[name], f"{name}-server"))
        text = self._settings("proxy", ports["proxy"], _PIPELINE) + "account_autocreate = true\n"
        filters = "".join(f"[filter:{name}]\n{lines}\n" for name, lines in _FILTERS.items())
        (state / "proxy.conf").write_text(text + filters)

    def _settings(self, name: str, port: int, pipeline: str) -> str:
        return (
            f"[DEFAULT]\nswift_dir = {self._folder}\ndevices = {self._folder}/device\nmount_check = false\n"
            f"fallocate_reserve = 0\nbind_ip = {self._address}\nbind_port = {port}\nuser = {getpass.getuser()}\n"
            "workers = 0\nlog_level = ERROR\n"
            f"[pipeline:main]\npipeline = {pipeline}\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        )

    def _make_ring(self, builder: Path, port: int) -> None:
        for step in (["create", "6", "1", "1"], ["add", f"r1z1-{self._address}:{port}/d1", "1"], ["rebalance"]):
            command = [str(self._programs / "swift-ring-builder"), str(builder), *step]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_quiet())


def _quiet() -> dict[str, str]:
    """Without the warning of eventlet about itself."""
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
