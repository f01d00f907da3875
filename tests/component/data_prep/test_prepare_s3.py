"""Preparation from and to a real S3 server, looked at through boto3."""

import subprocess
import sys
from pathlib import Path

import boto3
import numpy as np
import pytest

from data_prep import FileIndex, InProcessExecutor, Prepared, prepare
from data_prep.phantom import glas
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import AuthError, CorruptError
from udt_cluster.storage import Location

REPOSITORY = Path(__file__).parents[3]
pytestmark = [pytest.mark.component, pytest.mark.s3]


@pytest.fixture(scope="module")
def glands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glands")
    glas(folder, train=4, test=1, size=(48, 64))
    return folder


def run(source: str | Path, storage: str | Path, folder: Path) -> Prepared:
    config = DataConfig.model_validate({"source": str(source), "adapter": "glas", "size": (32, 32), "group_by": "case"})
    index = FileIndex(folder / "index.db")
    return prepare(config, "set", Location.parse(storage), executor=InProcessExecutor(), index=index)


def contents(uri: str) -> dict[str, bytes]:
    """Every object below an s3:// prefix, by boto3."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])]
    return {key[len(prefix) + 1 :]: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_the_same_bytes_on_s3_as_on_disk(glands: Path, tmp_path: Path, s3_uri: str) -> None:
    local, remote = run(glands, tmp_path / "s", tmp_path), run(glands, s3_uri, tmp_path)
    assert remote.version == local.version
    folder = local.location.local_path
    on_disk = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert contents(remote.location.uri) == on_disk
    ours, theirs = DataStore.open(remote.location, verify_checksums=True), DataStore.open(local.location)
    assert np.array_equal(ours.read_samples(0, 5)[0], theirs.read_samples(0, 5)[0])
    assert np.array_equal(ours.native_label(3), theirs.native_label(3))
    assert np.array_equal(ours.images[2], theirs.images[2])
    again = run(glands, s3_uri, tmp_path)
    assert again.already_there
    assert again.seconds < 2


SIXTEEN = """
import os, sys, traceback
from pathlib import Path
import torch
import data_prep.adapters.glas
import udt_cluster.data.geometry, udt_cluster.storage.s3
from data_prep import FileIndex, InProcessExecutor, prepare
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

torch.set_num_threads(1)
source, storage, folder = sys.argv[1:]
start, go = os.pipe()
children = []
for number in range(16):
    if pid := os.fork():
        children.append(pid)
        continue
    status = 1
    try:
        os.close(go)
        os.read(start, 1)  # until the last one is there
        config = DataConfig.model_validate({"source": source, "adapter": "glas", "size": (32, 32), "group_by": "case"})
        index = FileIndex(Path(folder, f"{number}.db"))
        prepare(config, "set", Location.parse(storage), executor=InProcessExecutor(), index=index)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
os.close(go)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children))
"""


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_fault_N4_sixteen_preparations_of_one_version_end_with_the_same_bytes(
    glands: Path, tmp_path: Path, s3_uri: str, where: str
) -> None:
    """All begin at once; whoever is first commits and removes what all have staged."""
    storage = s3_uri if where == "s3" else str(tmp_path / "many")
    (tmp_path / "indices").mkdir()
    command = [sys.executable, "-c", SIXTEEN, str(glands), storage, str(tmp_path / "indices")]
    ended = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=240, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    alone = run(glands, tmp_path / "alone", tmp_path)
    root = Location.parse(storage) / "data/set" / alone.version
    assert everything(root) == everything(alone.location)
    assert DataStore.open(root, verify_checksums=True).num_samples == 5
    assert (Location.parse(storage) / "staging").entries() == []


def everything(root: Location) -> dict[str, bytes]:
    """Every object below."""
    return {entry.key: (root / entry.key).read_bytes() for entry in root.entries()}


def test_a_source_on_s3(glands: Path, tmp_path: Path, s3_uri: str) -> None:
    bucket = s3_uri.removeprefix("s3://").partition("/")[0]
    for path in glands.rglob("*.png"):
        boto3.client("s3").upload_file(str(path), bucket, f"raw/{path.relative_to(glands)}")
    from_s3 = run(f"s3://{bucket}/raw", tmp_path / "a", tmp_path)
    from_disk = run(glands, tmp_path / "b", tmp_path)
    assert from_s3.version == from_disk.version
    read = [DataStore.open(p.location).read_samples(0, 5)[1] for p in (from_s3, from_disk)]
    assert np.array_equal(*read)


def test_fault_z2_object_missing_on_s3(glands: Path, tmp_path: Path, s3_uri: str) -> None:
    prepared = run(glands, s3_uri, tmp_path)
    store = DataStore.open(prepared.location)
    bucket, _, prefix = prepared.location.uri.removeprefix("s3://").partition("/")
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"{prefix}/images/c/0/0/0/0")
    with pytest.raises(CorruptError, match="images/c/0"):
        DataStore.open(prepared.location)
    with pytest.raises(CorruptError, match="images/c/0"):
        store.read_samples(0, 5)
    with pytest.raises(CorruptError, match="images/c/0"):
        store.images[0]


def test_a_wrong_secret_is_refused_and_writes_nothing(
    glands: Path, tmp_path: Path, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(AuthError):
            run(glands, s3_uri, tmp_path)
    assert contents(f"{s3_uri}/data") == {}
