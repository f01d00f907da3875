"""Profiles of targets, and which one a command takes."""

import os
import stat
from pathlib import Path

import pytest

from udt_cluster.cluster.client.targets import Target, add_target, current_target, load_targets, use_target
from udt_cluster.config.home import udt_home
from udt_cluster.errors import UsageError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    for name in ("UDT_TARGET", "UDT_JOBS_API", "UDT_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


LAB = Target("lab", jobs_api="http://head:8265/", tracking="http://mlflow:5000", storage="s3://lab/udt")


def test_local_is_there_and_is_the_default() -> None:
    assert current_target() == Target("local")
    assert set(load_targets()) == {"local"}


def test_a_profile_is_kept_used_and_private() -> None:
    add_target(LAB)
    use_target("lab")
    assert current_target().jobs_api == "http://head:8265"
    assert stat.S_IMODE((udt_home() / "targets.json").stat().st_mode) == 0o600


def test_environment_names_the_target_before_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    add_target(LAB)
    use_target("lab")
    monkeypatch.setenv("UDT_TARGET", "local")
    assert current_target().is_local
    monkeypatch.delenv("UDT_TARGET")
    monkeypatch.setenv("UDT_JOBS_API", "http://127.0.0.1:8265")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("UDT_STORAGE", "/nfs/udt")
    assert current_target() == Target(
        "environment", jobs_api="http://127.0.0.1:8265", tracking="http://127.0.0.1:5000", storage="/nfs/udt"
    )


def test_what_is_missing_is_named() -> None:
    add_target(Target("half", jobs_api="http://head:8265"))
    with pytest.raises(UsageError, match=r"--tracking, --storage"):
        current_target("half")


def test_unknown_names_list_the_known_ones() -> None:
    add_target(LAB)
    with pytest.raises(UsageError, match=r"known: lab, local"):
        current_target("lob")
    with pytest.raises(UsageError, match=r"known: lab, local"):
        use_target("lob")


@pytest.mark.parametrize("url", ["head:8265", "ftp://head", "http://", "http://user:secret@head:8265"])
def test_urls_are_checked_and_passwords_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        add_target(Target("bad", jobs_api=url))
    assert "secret" not in str(caught.value)
    assert "bad" not in load_targets()


def test_the_environment_for_nodes_has_addresses_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary")
    monkeypatch.delenv("AWS_REGION", raising=False)
    target = Target("lab", tracking="http://mlflow:5000", endpoint="http://s3:9000", region="eu")
    assert target.environment() == {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "AWS_ENDPOINT_URL_S3": "http://s3:9000",
        "AWS_REGION": "eu",
    }
    assert "canary" in os.environ["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize(
    "field",
    [
        {"jobs_api": "http://s3cr3t@head:8265"},
        {"jobs_api": "http://head:8265?token=s3cr3t"},
        {"tracking": "http://me:s3cr3t@mlflow:5000"},
        {"endpoint": "http://me:s3cr3t@s3:9000"},
        {"storage": "s3://AKIA:s3cr3t@bucket/x"},
    ],
)
def test_fault_S2_a_profile_keeps_no_credentials(field: dict[str, str], isolated_home: Path) -> None:
    good = {"jobs_api": "http://head:8265", "tracking": "http://mlflow:5000", "storage": "s3://bucket/x"}
    with pytest.raises(UsageError, match="carries credentials") as refused:
        add_target(Target("lab", **{**good, **field}))
    assert "s3cr3t" not in str(refused.value)
    assert not list(isolated_home.rglob("*targets*"))
