"""Reading URIs and joining keys; the public names of the room."""

import inspect
import pickle
from pathlib import Path

import pytest

import udt_cluster.storage
from udt_cluster.errors import UsageError
from udt_cluster.storage import Location


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket//a//b/", "s3://bucket/a/b"),
        ("s3://bucket/a b/ü%20", "s3://bucket/a b/ü%20"),
        ("file:///data/x/", "file:///data/x"),
        ("file://localhost/data", "file:///data"),
        ("file:///with%20space", "file:///with%20space"),
        ("file:///with space", "file:///with%20space"),
        ("/data//x", "file:///data/x"),
        ("//data", "file:///data"),
        ("/", "file:///"),
        ("/100%/ü", "file:///100%25/%C3%BC"),
    ],
)
def test_parse(given: str, uri: str) -> None:
    location = Location.parse(given)
    assert location.uri == str(location) == uri
    assert Location.parse(uri) == location
    assert hash(Location.parse(uri)) == hash(location)
    assert pickle.loads(pickle.dumps(location)) == location


@pytest.mark.parametrize(
    "given",
    [
        "", "s3://", "s3:///key", "s3://b/../c", "s3://b/./c", "file:///a/../b", "file:///a/%2e%2e/b", "file://host/a",
        "file://relative", "gs://bucket/a", "http://host/a", "a\0b", "s3://bucket/a\0", "file:///a%00b", "s3://-x/a",
    ],
)  # fmt: skip
def test_what_is_no_location(given: str) -> None:
    with pytest.raises(UsageError):
        Location.parse(given)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        Location.parse("s3://AKIA:canary-secret@bucket/key")
    assert "canary" not in str(caught.value)


def test_relative_paths_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert Location.parse("data").local_path == tmp_path / "here/data"
    assert Location.parse("../data").local_path == tmp_path / "data"
    assert Location.parse(Path("data")).local_path == tmp_path / "here/data"


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert Location.parse(tmp_path / "link").name == "link"


@pytest.mark.parametrize("start", ["s3://bucket", "s3://bucket/p", "/folder"])
def test_join_and_parts(start: str) -> None:
    root = Location.parse(start)
    joined = root / "a b/c#d.bin"
    assert joined == root / "a b" / "c#d.bin"
    assert joined.name == "c#d.bin"
    assert joined.parent == root / "a b"
    assert joined.parent.parent == root
    assert joined.is_local == start.startswith("/")


def test_the_top_is_its_own_parent() -> None:
    assert Location.parse("s3://bucket").parent == Location.parse("s3://bucket")
    assert Location.parse("s3://bucket").name == ""
    assert Location.parse("/").parent == Location.parse("/")


@pytest.mark.parametrize("key", ["", "/abs", "../up", "a/../b", "a/..", ".", "a//b", "a/", "nul\0", "./a"])
@pytest.mark.parametrize("start", ["s3://bucket/p", "/folder"])
def test_keys_that_could_leave_are_refused(start: str, key: str) -> None:
    with pytest.raises(UsageError, match="not a key"):
        Location.parse(start) / key


def test_local_path_of_s3_is_an_error() -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        _ = Location.parse("s3://bucket/a").local_path


def test_local_paths_round_trip_whatever_they_contain(tmp_path: Path) -> None:
    for name in ("a b", "ü", "100%", "%41", "a?b#c", "bytes\udcff"):
        assert Location.parse(tmp_path / name).local_path == tmp_path / name
        assert (Location.parse(tmp_path) / name).local_path == tmp_path / name


def test_public_names() -> None:
    public = {
        name
        for name, value in vars(udt_cluster.storage).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(udt_cluster.storage.__all__)
    assert udt_cluster.storage.__all__ == sorted(
        udt_cluster.storage.__all__, key=lambda n: (not n.isupper(), n.islower(), n)
    )
    for name in udt_cluster.storage.__all__:
        assert name == "JSON" or name.isupper() or inspect.getdoc(getattr(udt_cluster.storage, name)), name
