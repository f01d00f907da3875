"""Job files made to harm, or not job files at all: refused before anything is built or touched."""

import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udt_cluster.config import document
from udt_cluster.config.job import Job
from udt_cluster.config.load import check_job, load_job
from udt_cluster.config.section import NAME_PATTERN
from udt_cluster.errors import JobFileError

GOOD = "name: heart\ndata: {source: /x, adapter: acdc}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(path: Path, data: str | bytes) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(JobFileError) as raised:
        load_job(path)
    assert raised.value.exit_code == 2
    assert raised.value.problems
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + "x: !!python/object/apply:os.system ['touch CANARY']\n", 3, "the tag !!python/object/apply:os.system;"),
        (GOOD + "x: !!python/name:os.system\n", 3, "the tag"),
        (GOOD + "x: !include /etc/passwd\n", 3, "the tag !include"),
        (GOOD + "x: !!int '5'\n", 3, "the tag"),
        (GOOD + "x: &a 5\n", 3, "the anchor &a"),
        (GOOD + "x: *a\n", 3, "the alias *a"),
        (GOOD + "<<: {epochs: 3}\n", 3, "merge keys (<<) are not supported; write the keys out"),
        (GOOD + "name: other\n", 3, "written twice, first in line 1"),
        (GOOD + "train:\n  epochs: 3\n  lr: 0.1\n  epochs: 4\n", 6, "written twice, first in line 4"),
        (GOOD + "train: {epochs: 3, epochs: 3}\n", 3, "written twice"),
        (GOOD + "---\nname: other\n", 3, "a second document"),
        ("%YAML 1.1\n---\n" + GOOD, 2, "a %YAML or %TAG line"),
        (GOOD + "\ttrain: {}\n", 3, "a tab"),
        (GOOD + "train:\n\tepochs: 3\n", 4, "a tab"),
        (GOOD + "train: {epochs: 3\n", 4, "not closed"),
        (GOOD + "train: 'epochs\n", 3, "a quote is opened and never closed"),
        (GOOD + "train: epochs: 3\n", 3, "a second ':' in a line; keys go on lines of their own"),
        (GOOD + "train:\n  epochs: 3\n lr: 1\n", 5, "indentation"),
        (GOOD + "just a word\n", 4, "a key without ':'"),
        (GOOD + "x: \x00\n", 3, "control character"),
        (GOOD + "? [a, b]\n: 5\n", 3, "a key must be a plain word"),
        (GOOD + f"x: {'[' * 50}{']' * 50}\n", 3, "nested more than"),
        (GOOD + f"x: {'[' * 100_000}\n", 3, "nested more than"),
        (GOOD + f"x: [{'1, ' * 20_000}]\n", 3, "more than 10,000 values"),
        (GOOD + 'x: "\\ud800"\n', 3, "half a character"),
        ("- name: heart\n", 1, "made of `key: value` lines; this is a list"),
        ("# a\n\njust text\n", 3, "the single value 'just text'"),
    ],
)
def test_fault_S4_what_is_no_plain_mapping_is_refused_with_its_line(
    text: str, line: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.yaml"
    told = refused(path, text)
    assert f"{path}:{line}: " in told
    assert says in told
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_fault_S4_an_alias_bomb_is_listed_not_expanded(tmp_path: Path) -> None:
    before = time.process_time()
    told = refused(tmp_path / "job.yaml", BOMB)
    assert time.process_time() - before < 2
    assert told.count("the anchor &") == 9
    assert told.count("the alias *") == 8 * 9


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"name: caf\xe9\n", "1: not UTF-8 text (byte 0xe9)"),
        (b"\n\nname: x\xff\n", "3: not UTF-8 text"),
        (GOOD.encode("utf-16"), "this is UTF-16 text, not a job file; save it as UTF-8"),
        (b"# " + b"x" * document.MAX_BYTES, "a job file has at most 1,000,000"),
    ],
)
def test_fault_S4_what_is_no_text_file_of_a_job_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path / "job.yaml", data)


def test_fault_S4_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, says in [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "this is a folder"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ]:
        with pytest.raises(JobFileError) as raised:
            load_job(path)
        assert says in str(raised.value)


def test_fault_S4_every_unknown_key_is_told_with_its_line(tmp_path: Path) -> None:
    told = refused(tmp_path / "job.yaml", GOOD + "aaa: 1\ntrain: {bbb: 2}\nmodel:\n  ccc: 3\n")
    assert [line.split(": ")[0][-1] for line in told.splitlines()] == ["3", "4", "6"]


BAD_NAMES = [
    "../../x",
    "a/b",
    "a\0b",
    "a" * 300,
    "-x",
    "Herz",
    "härz",
    "心",
    "a b",
    "a.b",
    "a_b",
    "",
    "a\n",
    " a",
    "$(x)",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_fault_J2_a_name_that_is_no_name_is_refused_with_the_rule(name: str, tmp_path: Path) -> None:
    quoted = '"' + name.replace("\0", "\\0").replace("\n", "\\n") + '"'
    told = refused(tmp_path / "job.yaml", GOOD.replace("heart", quoted))
    assert "name: a name has 1 to 63 lower-case letters, digits and dashes, beginning with a letter or digit" in told
    assert "job.yaml:1: name: " in told
    assert list(tmp_path.iterdir()) == [tmp_path / "job.yaml"]


@pytest.mark.parametrize("field", ["register.model", "register.alias", "data.name"])
def test_fault_J2_other_names_keep_the_same_rule(field: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(GOOD)
    with pytest.raises(JobFileError, match="a name has 1 to 63"):
        load_job(tmp_path / "job.yaml", [f"{field}=../../x"])


@given(st.text(max_size=80))
def test_fault_J2_no_text_outside_the_rule_becomes_a_name(name: str) -> None:
    allowed = set(string.ascii_lowercase + string.digits + "-")
    right = 1 <= len(name) <= 63 and set(name) <= allowed and not name.startswith("-")
    try:
        Job.model_validate({"name": name, "data": {"source": "/x", "adapter": "acdc"}})
    except ValueError:
        assert not right
    else:
        assert right


@given(st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: not name.endswith("\n")))
def test_every_name_of_the_rule_is_accepted(name: str) -> None:
    assert Job.model_validate({"name": name, "data": {"source": "/x", "adapter": "acdc"}}).name == name


@given(text=st.text(alphabet=string.printable, max_size=60))
def test_no_text_makes_the_reader_fail_in_another_way(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(GOOD + text)
    found = check_job(path)
    assert isinstance(found, Job) or all(str(problem).startswith(str(path)) for problem in found)
