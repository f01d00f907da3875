"""What every test may ask for: real servers, real images, a home of its own."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.network import hosts_are_missing
from tests.servers.mlflow import mlflow_server as mlflow_server
from tests.servers.swift import S3Server, SwiftServers, swift_folder

pytest.register_assert_rewrite("tests.contracts")

REPOSITORY = Path(__file__).resolve().parents[1]


def _s3_is_missing() -> str | None:
    program = swift_folder(REPOSITORY) / "swift-proxy-server"
    return None if program.is_file() else f"no S3 server: {program} is not there; run `make setup-test`"


def _package_is_missing(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed; run `make setup`"


# The marker of a test -> why what it needs cannot be had here, or None.
_NEEDS: dict[str, Callable[[], str | None]] = {
    "s3": _s3_is_missing,
    "mlflow": lambda: _package_is_missing("mlflow"),
    "ray": lambda: _package_is_missing("ray"),
    "hosts": hosts_are_missing,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --require."""
    parser.addoption(
        "--require",
        default="",
        metavar="NEEDS",
        help=f"comma-separated, of {','.join(_NEEDS)}: what must be there; a test without it fails instead of skipping",
    )


def _required(config: pytest.Config) -> set[str]:
    return {need for need in str(config.getoption("--require")).split(",") if need}


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a need that no test has."""
    if unknown := _required(config) - set(_NEEDS):
        raise pytest.UsageError(f"--require: {', '.join(sorted(unknown))}; allowed: {', '.join(_NEEDS)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, or fail it where it was required."""
    for need, missing in _NEEDS.items():
        if item.get_closest_marker(need) is None:
            continue
        if reason := missing():
            if need in _required(item.config):
                pytest.fail(f"--require={need}: {reason}", pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server; mark the test `s3`."""
    servers = SwiftServers(swift_folder(REPOSITORY), tmp_path_factory.mktemp("swift"))
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The same server, with the AWS variables of this process leading to it and no others set."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_uri(s3_env: S3Server) -> str:
    """``s3://`` and a new bucket, with the environment to use it."""
    return f"s3://{s3_env.make_bucket()}"


@pytest.fixture(scope="session")
def udt_test_data() -> Path:
    """The folder of real images: UDT_TEST_DATA, or ../shared/data. Skipped where absent, failed under CI."""
    folder = Path(os.environ.get("UDT_TEST_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        reason = f"no real images: {folder} is not there; set UDT_TEST_DATA"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return folder


@pytest.fixture
def isolated_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty UDT_HOME with a short path: those of Ray's sockets may have 107 bytes only."""
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    monkeypatch.setenv("UDT_HOME", str(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)
