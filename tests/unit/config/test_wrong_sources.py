"""Sources that no node can read, and texts that are no YAML: the whole of what is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from udt_cluster.config.load import check_job, load_job
from udt_cluster.errors import JobFileError

GLAS = "name: h\ndata:\n  source: {}\n  adapter: glas\n"

SOURCES = [
    pytest.param(
        "${DATA_ROOT}/glas",
        ["3: data.source: variables are not expanded; write the path itself; got '${DATA_ROOT}/glas'"],
        id="N16_variable",
    ),
    pytest.param(
        "$HOME/glas",
        ["3: data.source: variables are not expanded; write the path itself; got '$HOME/glas'"],
        id="D3_HOME",
    ),
    pytest.param(
        "'%USERPROFILE%/glas'",
        ["3: data.source: variables are not expanded; write the path itself; got '%USERPROFILE%/glas'"],
        id="D3_percent",
    ),
    pytest.param(
        '"{{ root }}/glas"',
        ["3: data.source: templates are not expanded; write the path itself; got '{{ root }}/glas'"],
        id="D3_template",
    ),
    pytest.param("<path>", ["3: data.source: a placeholder; write the path itself; got '<path>'"], id="D3_placeholder"),
    pytest.param(
        "s3:/lab/glas",
        ["3: data.source: s3: without //; got 's3:/lab/glas'; did you mean s3://lab/glas?"],
        id="D3_one_slash",
    ),
    pytest.param("s3://", ["3: data.source: no bucket; write s3://BUCKET/PREFIX; got 's3://'"], id="D3_no_bucket"),
    pytest.param(
        "s3:///glas",
        ["3: data.source: no bucket; write s3://BUCKET/PREFIX; got 's3:///glas'"],
        id="D3_no_bucket_but_a_key",
    ),
    pytest.param("S3://lab", ["3: data.source: write s3:// in lower case: s3://lab; got 'S3://lab'"], id="D3_capitals"),
    pytest.param(
        "/data/GlaS.zip",
        ["3: data.source: an archive; unpack it first: udt-cluster data unpack GlaS.zip FOLDER; got '/data/GlaS.zip'"],
        id="D3_archive",
    ),
    pytest.param(
        "/data/GlaS.tar.gz",
        [
            (
                "3: data.source: an archive; unpack it first: udt-cluster data unpack GlaS.tar.gz FOLDER; got "
                "'/data/GlaS.tar.gz'"
            )
        ],
        id="D3_tar_ball",
    ),
    pytest.param(
        "https://zenodo.org/x",
        ["3: data.source: must be a folder or an s3:// prefix; got 'https://zenodo.org/x'"],
        id="D3_http",
    ),
    pytest.param("gs://b/x", ["3: data.source: must be a folder or an s3:// prefix; got 'gs://b/x'"], id="D3_google"),
    pytest.param(
        "file://data",
        ["3: data.source: file:// and an absolute path: file:///data; got 'file://data'"],
        id="D3_file_without_a_slash",
    ),
    pytest.param(
        '"C:\\new\\train"',
        [
            (
                "3: data.source: a control character; in \"...\" a backslash begins an escape: use '/' or single "
                "quotes; got 'C:\\new\\train'"
            )
        ],
        id="D2_escapes",
    ),
    pytest.param(
        "C:\\Users\\anna\\glas",
        [
            (
                "3: data.source: a Windows path; write it as the nodes see it, with '/': for example "
                "/mnt/Users/anna/glas; got 'C:\\\\Users\\\\anna\\\\glas'"
            )
        ],
        id="D2_windows",
    ),
    pytest.param(
        "D:/data",
        [
            (
                "3: data.source: a Windows path; write it as the nodes see it, with '/': for example /mnt/data; got "
                "'D:/data'"
            )
        ],
        id="D2_windows_with_slashes",
    ),
    pytest.param(
        "'D:'", ["3: data.source: a Windows path; write it as the nodes see it, with '/'; got 'D:'"], id="D2_drive"
    ),
    pytest.param(
        "data\\glas",
        ["3: data.source: a backslash; folders are divided by '/': data/glas; got 'data\\\\glas'"],
        id="D2_backslashes",
    ),
    pytest.param(
        "user@host:/data/glas",
        [
            (
                "3: data.source: a path on another machine; write a folder that the nodes see, or s3://; got "
                "'user@host:/data/glas'"
            )
        ],
        id="D2_scp",
    ),
    pytest.param(
        "~anna/glas",
        ["3: data.source: only ~/ is expanded, not the home of another user; write the path itself; got '~anna/glas'"],
        id="of_another_home",
    ),
    pytest.param(
        "'/data/glas '",
        ["3: data.source: a space at the beginning or the end; write /data/glas; got '/data/glas '"],
        id="of_a_space",
    ),
    pytest.param(
        "\u201c/data/glas\u201d",
        [
            (
                "3: data.source: a quotation mark in the path; write the path itself without it; got "
                "'\u201c/data/glas\u201d'"
            )
        ],
        id="typographic",
    ),
    pytest.param('""', ["3: data.source: a path is missing; got ''"], id="empty"),
    pytest.param("[/a, /b]", ["3: data.source: must be text, got [/a, /b]: write one of them"], id="N08_two"),
    pytest.param("~", ["3: data.source: must be text, got nothing"], id="null"),
    pytest.param(
        '"D:\\radiology\\users\\glas"',
        ["3: this is not YAML: in \"...\" a backslash begins an escape; folders are divided by '/'"],
        id="N19_windows_in_double_quotes",
    ),
    pytest.param(
        '"D:\\Daten\\glas"',
        ["3: this is not YAML: in \"...\" a backslash begins an escape; folders are divided by '/'"],
        id="D2_unknown_escape",
    ),
]

TEXTS = [
    pytest.param(
        "name:glas\ndata:\n  source: /d\n", ["1: this is not YAML: a space is missing after 'name:'"], id="D10_no_space"
    ),
    pytest.param(
        "name: h\ntrain:\n  epochs:50\n  lr: 1\n",
        ["3: this is not YAML: a space is missing after 'epochs:'"],
        id="D10_no_space_within",
    ),
    pytest.param(
        "name: h\ndata:\n  source: '/data/anna's/glas'\n  adapter: glas\n",
        ["3: this is not YAML: a quote inside quotes; use the other kind of quotes around the text"],
        id="D10_quote_within",
    ),
    pytest.param(
        "name: h\ndata:\n  source: {{ root }}/glas\n  adapter: glas\n",
        ["3: this is not YAML: a text with '{' needs quotes, and templates are not expanded: write the value itself"],
        id="D10_template",
    ),
    pytest.param(
        "name: h\ndata:\n  source: [root]/glas\n  adapter: glas\n",
        ["3: this is not YAML: something stands behind the closing bracket; a text with '[' needs quotes"],
        id="D10_bracket",
    ),
    pytest.param(
        'name: h\ndata:\n  source: "/data/glas\n  adapter: glas\n',
        ["3: this is not YAML: a quote is opened and never closed"],
        id="D10_quote_never_closed",
    ),
    pytest.param(
        "name: h\ndata:\n\u00a0\u00a0source: /d\n",
        ["3: indented with U+00A0, which looks like a space; write spaces"],
        id="D10_nbsp",
    ),
    pytest.param(
        "name: h\ndata:\n  source:\t/d\n", ["3: this is not YAML: a tab after ':'; write a space"], id="D10_tab_behind"
    ),
    pytest.param(
        "name: h\ndata:\n\tsource: /d\n",
        ["3: this is not YAML: a tab; YAML is indented with spaces"],
        id="D10_tab_before",
    ),
    pytest.param(
        "name: h\ndata:\n  source: /d\n   adapter: glas\n",
        ["4: this is not YAML: indented by 3 spaces, the line above by 2; keys of a section are aligned"],
        id="N04_deeper",
    ),
    pytest.param(
        "name: h\ndata:\n  source: /data: new/glas\n",
        [
            (
                "3: this is not YAML: a second ':' in a line; keys go on lines of their own, and a text with ': ' "
                "needs quotes"
            )
        ],
        id="N_colon_in_a_text",
    ),
    pytest.param(
        "name: h\ndata\n  source: /d\n", ["2: this is not YAML: a ':' is missing after 'data'"], id="N_no_colon"
    ),
    pytest.param(
        "name = h\ndata:\n  source: /d\n",
        ["1: this is not YAML: '=' where ':' belongs; write name: ..."],
        id="N_equals",
    ),
    pytest.param(
        "name: h\ndata: {source: /d, adapter: glas\ntrain:\n  epochs: 5\n",
        ["3: this is not YAML: the '{' of line 2 is not closed, or a ',' is missing"],
        id="N_bracket_of_another_line",
    ),
    pytest.param(
        "name: h\ndata:\n  source: /d\n  adapter: glas\n  label_colors: [#ff0000]\n",
        ["5: this is not YAML: a '#' begins a comment; a text with it needs quotes"],
        id="N_hash",
    ),
    pytest.param(
        "name: h\ndata:\n  source: /d\n  adapter: glas\nrepeat:\n  <<: *t\n",
        [
            "6: merge keys (<<) are not supported; write the keys out",
            "6: the alias *t; write the value itself (a text that begins with '*' needs quotes)",
        ],
        id="N15_merge_keys",
    ),
    pytest.param(
        "name: h\ndata:\n  source: !!python/object/apply:os.getcwd []\n",
        [
            (
                "3: the tag !!python/object/apply:os.getcwd; job files hold plain values only (a text that begins with "
                "'!' needs quotes)"
            )
        ],
        id="N15_tag",
    ),
    pytest.param(
        "data:\n  source: /d\n",
        [
            "1: name: is missing; for example name: job",
            (
                "1: data.adapter: is missing; one of acdc, arrays, covid19, dicom, glas, image_folder, isic2018, "
                "monuseg, nifti, synapse"
            ),
        ],
        id="N06_nothing_required",
    ),
    pytest.param(
        "name: h\n",
        ["1: data: is missing; for example data: {source: /data/glas, adapter: glas, group_by: case}"],
        id="D8_no_data",
    ),
    pytest.param(
        "name: h\ndata:\nsource: /d\nadapter: glas\n",
        [
            "2: data: the section is empty; indent its keys under it, or remove the line",
            (
                "3: source: unknown key; did you mean data.source? Allowed at the top: version, name, data, model, "
                "train, repeat, resources, retry, tune, study, evaluate, register, stages"
            ),
            "4: adapter: unknown key; did you mean data.adapter?",
        ],
        id="D8_not_indented",
    ),
]


@pytest.mark.parametrize(("source", "says"), SOURCES)
def test_a_source_that_cannot_be_meant_is_told(source: str, says: list[str], told: Callable[[str], list[str]]) -> None:
    assert told(GLAS.format(source)) == says


@pytest.mark.parametrize(("text", "says"), TEXTS)
def test_a_text_that_is_no_yaml_is_told_what_was_done(
    text: str, says: list[str], told: Callable[[str], list[str]]
) -> None:
    assert told(text) == says


def test_json_is_called_json(told: Callable[[str, str], list[str]]) -> None:
    comment = '{\n  // my job\n  "name": "h"}\n'
    assert told(comment, "job.json") == ["2: this is not JSON: a comment; begin it with #, not with //"]
    open_bracket = '{"name": "h",\n "data": {"source": "/d"\n "adapter": "glas"}}'
    assert told(open_bracket, "job.json") == [
        "3: this is not JSON: the '{' of line 2 is not closed, or a ',' is missing"
    ]


@pytest.mark.parametrize(
    ("magic", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "an image (PNG), not a job file"),
        (b"\xff\xd8\xff\xe0", "an image (JPEG), not a job file"),
        (b"PK\x03\x04", "a ZIP archive, not a job file"),
        (b"\x89HDF\r\n", "an HDF5 file, not a job file"),
        (b"\xff\xfen\x00", "UTF-16 text, not a job file; save it as UTF-8"),
    ],
)
def test_another_kind_of_file_is_named(magic: bytes, kind: str, told: Callable[[bytes], list[str]]) -> None:
    assert [line.rpartition(": ")[2] for line in told(magic)] == [f"this is {kind}"]


def test_a_trailing_comma_of_json_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"name": "h", "data": {"source": "/d", "adapter": "glas",}, "train": {"epochs": 5,}}')
    assert load_job(path).train.epochs == 5


def test_the_example_of_a_name_is_the_files(told: Callable[[str, str], list[str]]) -> None:
    assert told("data: {source: /d, adapter: glas}\n", "My GlaS.yaml") == [
        "1: name: is missing; for example name: my-glas"
    ]
    assert told("data: {source: /d, adapter: glas}\n", "06.yaml") == ['1: name: is missing; for example name: "06"']


SECRET = "AKIAEXAMPLE:s3cr3t-9f2c"


@pytest.mark.parametrize(
    "data",
    [
        f"{{source: 's3://{SECRET}@bucket/x', adapter: acdc}}",
        f"{{source: /x, adapter: acdc, splits: {{scheme: file, file: 's3://{SECRET}@bucket/x.json'}}}}",
        f"{{source: 'https://{SECRET}@host/x', adapter: acdc}}",
    ],
)
def test_fault_S2_an_address_with_credentials_is_refused_and_not_repeated(data: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"name: heart\ndata: {data}\n")
    found = check_job(file)
    assert isinstance(found, tuple)
    text = "\n".join(map(str, found))
    assert "credentials in an address" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("field", ["data.source", "model.pretrained", "train.init_from"])
def test_fault_S2_an_override_with_credentials_is_refused_and_not_repeated(field: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: heart\ndata: {source: /x, adapter: acdc}\n")
    with pytest.raises(JobFileError) as refused:
        load_job(file, [f"{field}=s3://{SECRET}@bucket/x"])
    assert "credentials in an address" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
