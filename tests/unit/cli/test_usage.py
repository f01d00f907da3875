"""Wrong usage, unexpected failures, and what no command may do."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from udt_cluster import __version__
from udt_cluster.cli.app import main

# Typer itself needs pydantic for the parameters of a command, but not for the program's own help.
HEAVY = {"ruamel.yaml", "rich", "numpy", "torch", "ray", "mlflow", "zarr", "fsspec", "requests"}
ROOT = Path(__file__).parents[3]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from udt_cluster.cli.app import main; main(sys.argv[1:]); "
        f"heavy = {HEAVY!r} | ({{'pydantic'}} if len(sys.argv) == 2 else set()); "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for words in (["--help"], ["--version"], ["submit", "--help"], ["models", "ls", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stderr.strip() == "[]", words


def test_the_version(run: Callable[..., Any]) -> None:
    assert run("--version").out == f"udt-cluster {__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sumbit", "x"), "Did you mean 'submit'?"),
        (("submit",), "Missing argument"),
        (("submit", "x.yaml", "--wiat"), "--wait"),
        (("data", "lss"), "Did you mean 'ls'?"),
        (("target", "add", "../x"), "1 to 63 lower-case letters"),
        (("target", "add", "local"), "choose another"),
        (("target", "use", "nowhere"), "no target 'nowhere'"),
        (("ls", "--target", "nowhere"), "no target 'nowhere'"),
        (("status", "nosuchjob"), "no job 'nosuchjob'"),
        (("init", "--template", "adcd"), "did you mean acdc?"),
        (("submit", "nosuch.yaml"), "no such file"),
        (("submit", "."), "this is a folder"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_remedy(
    words: tuple[str, ...], says: str, cluster: Any, run: Callable[..., Any]
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert says in ran.err
    assert json.loads(run(*words, "--json").out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("words", [(), ("data",), ("models",), ("target",)])
def test_a_group_without_a_verb_shows_its_help(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: udt-cluster")


def test_a_wrong_job_file_is_told_with_lines_and_nothing_is_asked_of_the_cluster(
    cluster: Any, run: Callable[..., Any], job_file: Path
) -> None:
    job_file.write_text(job_file.read_text() + "train:\n  epoch: 3\n")
    for words in (("submit", str(job_file)), ("data", "prepare", str(job_file)), ("validate", str(job_file))):
        ran = run(*words)
        assert (ran.code, ran.out, cluster.calls) == (2, "", [])
        assert f"{job_file}:4: train.epoch: unknown key; did you mean train.epochs?" in ran.err


def test_a_failure_that_nobody_foresaw_is_one_line_and_a_file_without_values(
    cluster: Any, run: Callable[..., Any], isolated_home: Path, job_file: Path
) -> None:
    cluster.fails = ZeroDivisionError("the cause\nmore")
    ran = run("submit", str(job_file))
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "ZeroDivisionError: the cause." in ran.err
    (kept,) = (isolated_home / "logs").iterdir()
    assert str(kept) in ran.err
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    text = kept.read_text()
    assert "ZeroDivisionError" in text
    assert "locals" not in text


def test_fault_S2_a_traceback_has_no_values_of_variables(
    cluster: Any, run: Callable[..., Any], isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY-7f3a")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]

    def fails(target: Any, *, limit: int | None = None) -> list[Any]:
        held = secret + "!"
        raise RuntimeError(f"length {len(held)}")

    sys.modules["udt_cluster.cluster.client.jobs"].list_jobs = fails  # type: ignore[attr-defined]
    ran = run("ls")
    kept = "".join(path.read_text() for path in (isolated_home / "logs").iterdir())
    assert "RuntimeError" in kept
    assert "CANARY" not in kept + ran.out + ran.err


def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = "import sys; from udt_cluster.cli.app import main; sys.exit(main(['schema']))"
    command = f'{sys.executable} -c "{code}" | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_interrupted_before_there_is_a_job(cluster: Any, run: Callable[..., Any], job_file: Path) -> None:
    cluster.fails = KeyboardInterrupt()
    assert run("submit", str(job_file)).code == 130


def test_the_exit_code_is_returned_and_nothing_exits(isolated_home: Path) -> None:
    assert main(["--version"]) == 0
    assert main(["nosuch"]) == 2
