"""The wheel that is shipped is this code, is the same for the same code, and installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import udt_cluster
from udt_cluster.cluster.client.wheel import build_wheel


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))


def test_it_holds_both_packages_and_no_rubbish() -> None:
    with zipfile.ZipFile(build_wheel()) as archive:
        names = set(archive.namelist())
        source = archive.read("udt_cluster/errors.py")
    assert source == (Path(udt_cluster.__file__).parent / "errors.py").read_bytes()
    assert any(name.startswith("data_prep/") for name in names)
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_the_same_code_gives_the_same_file() -> None:
    first = build_wheel()
    data = first.read_bytes()
    first.unlink()
    again = build_wheel()
    assert again == first
    assert again.read_bytes() == data


def test_pip_installs_it_without_fetching_anything(tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        f"--target={target}",
        str(build_wheel()),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert (target / "udt_cluster" / "errors.py").is_file()
