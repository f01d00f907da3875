"""--require turns what cannot run into a failure; without it, it is skipped with the reason."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import pytest_configure, pytest_runtest_setup


class Item:
    """A test with one marker, in a session with --require."""

    def __init__(self, marker: str, require: str) -> None:
        self.marker = marker
        self.config = SimpleNamespace(getoption=lambda name: {"--require": require}[name])

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == self.marker else None


@pytest.fixture(autouse=True)
def no_s3_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDT_SWIFT_VENV", str(tmp_path / "none"))


@pytest.mark.parametrize("require", ["", "mlflow", "ray,mlflow"])
def test_a_need_that_cannot_be_met_is_skipped_with_the_reason(require: str) -> None:
    with pytest.raises(pytest.skip.Exception, match="make setup-test"):
        pytest_runtest_setup(Item("s3", require))


@pytest.mark.parametrize("require", ["s3", "mlflow,s3"])
def test_a_required_need_that_cannot_be_met_fails(require: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"--require=s3.*make setup-test"):
        pytest_runtest_setup(Item("s3", require))


@pytest.mark.parametrize("marker", ["mlflow", "ray", "component"])
def test_a_need_that_is_met_runs(marker: str) -> None:
    pytest_runtest_setup(Item(marker, "s3,mlflow,ray"))


def test_hosts_need_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="need root"):
        pytest_runtest_setup(Item("hosts", ""))
    with pytest.raises(pytest.fail.Exception, match="--require=hosts: hosts in network namespaces need root"):
        pytest_runtest_setup(Item("hosts", "hosts"))


def test_an_unknown_need_is_refused() -> None:
    pytest_configure(Item("", "s3,ray").config)
    with pytest.raises(pytest.UsageError, match="postgres"):
        pytest_configure(Item("", "s3,postgres").config)
