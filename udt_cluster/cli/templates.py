"""The job files that come with the package."""

import difflib
from pathlib import Path

import udt_cluster
from udt_cluster.errors import UsageError

SCHEMA = "job.schema.json"


def folder() -> Path:
    """Where they lie: inside an installed package, beside it in a checkout."""
    package = Path(udt_cluster.__file__).parent
    packaged = package / "_jobs"
    return packaged if packaged.is_dir() else package.parent / "jobs"


def names() -> list[str]:
    """The name of each."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def text(name: str) -> str:
    """One of them.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"there is no template {name!r}{hint} There are: {', '.join(names())}".replace("'  ", "' "))
    return (folder() / f"{name}.yaml").read_text(encoding="utf-8")


def what(name: str) -> str:
    """What it is for, from its header: the first sentence behind `What:`."""
    lines = text(name).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("# What:"))
    words = lines[start].removeprefix("# What:").strip()
    for line in lines[start + 1 :]:
        if not line.startswith("#  ") or ". " in words or words.endswith("."):
            break
        words += " " + line.removeprefix("#").strip()
    return words.split(". ")[0].rstrip(".")
