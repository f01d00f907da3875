"""The code that is shipped is this code, has another name when it changes, and is imported from where it arrives."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package, get_uri_for_directory

import udt_cluster
from udt_cluster.cluster.client import code
from udt_cluster.cluster.client.code import PACKAGES, shipped_code


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code that the client takes for itself."""
    root = tmp_path / "code"
    source = Path(udt_cluster.__file__).parents[1]
    for package in PACKAGES:
        shutil.copytree(source / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "__file__", str(root / "udt_cluster" / "cluster" / "client" / "code.py"))
    return root


def uris() -> list[str]:
    shipped = shipped_code()
    return [
        get_uri_for_directory(folder, include_gitignore=True, excludes=shipped["excludes"])
        for folder in shipped["py_modules"]
    ]


def test_changed_code_has_another_name_and_rubbish_does_not_count(copy: Path) -> None:
    before = uris()
    assert len(set(before)) == len(PACKAGES)
    rubbish = copy / "udt_cluster" / "cluster" / "__pycache__" / "record.cpython-311.pyc"
    rubbish.parent.mkdir()
    rubbish.write_bytes(b"compiled")
    assert uris() == before
    (copy / "udt_cluster" / "errors.py").write_text("changed = True\n")
    after = uris()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_it_is_imported_from_where_it_arrives(tmp_path: Path) -> None:
    shipped, paths = shipped_code(), []
    for folder in map(Path, shipped["py_modules"]):
        package, site = tmp_path / f"{folder.name}.zip", tmp_path / f"site-{folder.name}"
        create_package(str(folder), package, True, include_parent_dir=True, excludes=shipped["excludes"])
        with zipfile.ZipFile(package) as archive:
            assert not [name for name in archive.namelist() if "__pycache__" in name]
            archive.extractall(site)
        paths.append(str(site))
    script = "import udt_cluster.errors, data_prep.source; print(udt_cluster.__file__, data_prep.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(str(tmp_path) in file for file in done.stdout.split())
