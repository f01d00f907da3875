"""What the two packages offer, and what importing them costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import udt_cluster
from udt_cluster import evaluation

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("package", [udt_cluster, evaluation])
def test_all_is_what_there_is(package):
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_all_of_evaluation_is_what_its_door_imports():
    public = {name for name, value in vars(evaluation).items() if name[0] != "_" and not hasattr(value, "__path__")}
    modules = {name for name in public if getattr(evaluation, name).__class__.__name__ == "module"}
    assert public - modules == set(evaluation.__all__)


def test_load_model_is_one_function_everywhere():
    assert udt_cluster.load_model is evaluation.load_model
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        udt_cluster.load_modle  # noqa: B018


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert udt_cluster.__version__ == project["version"]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, udt_cluster; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_evaluation_waits_for_nothing_that_only_pictures_and_distances_need():
    code = (
        "import sys, udt_cluster.evaluation; print([n for n in ('monai', 'matplotlib', 'mlflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
