"""Imports go down only, and each outside system has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = {
    "udt_cluster.errors": 0,
    "udt_cluster.config": 1,
    "udt_cluster.pages": 1,
    "udt_cluster.models": 2,
    "udt_cluster.storage": 2,
    "udt_cluster.statistics": 2,
    "udt_cluster.data": 3,
    "data_prep": 3,
    "udt_cluster.tracking": 3,
    "udt_cluster.search": 3,
    "udt_cluster.training": 4,
    "udt_cluster.evaluation": 4,
    "udt_cluster.studies": 4,
    "udt_cluster.cluster": 5,
    "udt_cluster.cli": 6,
}
SAME_LAYER_ALLOWED = {("data_prep", "udt_cluster.data")}
DOORS = {
    "ray": {"udt_cluster.cluster"},
    "deepspeed": {"udt_cluster.training"},
    "mlflow": {"udt_cluster.tracking"},
    "s3fs": {"udt_cluster.storage"},
    "fsspec": {"udt_cluster.storage"},
    "boto3": {"udt_cluster.storage"},
    "botocore": {"udt_cluster.storage"},
    "zarr": {"udt_cluster.storage", "udt_cluster.data", "data_prep"},
    "nibabel": {"data_prep"},
    "h5py": {"data_prep"},
    "pydicom": {"data_prep"},
    "typer": {"udt_cluster.cli"},
    "rich": {"udt_cluster.cli"},
    "pydantic": {"udt_cluster.config", "udt_cluster.evaluation", "udt_cluster.search"},
    "ruamel": {"udt_cluster.config"},
    "optuna": {"udt_cluster.search"},
}
ONE_FILE_DOORS = {"deepspeed": "udt_cluster.training.engine"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    return max((name for name in LAYERS if module == name or module.startswith(f"{name}.")), key=len, default="")


def imports(path: Path) -> set[str]:
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            found.add(".".join([*parents, *([node.module] if node.module else [])]))
    return found


SOURCES = sorted(path for package in ("udt_cluster", "data_prep") for path in (ROOT / package).rglob("*.py"))


def test_every_source_file_has_a_layer() -> None:
    homeless = [module_name(path) for path in SOURCES if not room(module_name(path))]
    assert homeless == ["udt_cluster"], "only the package's own door stands outside the layers"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    own = room(module_name(path))
    if not own:
        return
    up = [
        target
        for target in imports(path)
        if (other := room(target))
        and other != own
        and LAYERS[other] >= LAYERS[own]
        and (own, other) not in SAME_LAYER_ALLOWED
    ]
    assert not up, f"{module_name(path)} imports {up}, which are not below it"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_each_outside_system_has_one_door(path: Path) -> None:
    module = module_name(path)
    strays = [
        name
        for name in imports(path)
        if (top := name.split(".")[0]) in DOORS
        and (room(module) not in DOORS[top] or module != ONE_FILE_DOORS.get(top, module))
    ]
    assert not strays, f"{module} imports {strays}; their doors are {[DOORS[name.split('.')[0]] for name in strays]}"


CLUSTER = {"udt_cluster.cluster.worker": 1, "udt_cluster.cluster.driver": 2, "udt_cluster.cluster.client": 3}


@pytest.mark.parametrize("path", sorted((ROOT / "udt_cluster" / "cluster").rglob("*.py")), ids=module_name)
def test_within_the_cluster_client_imports_driver_imports_worker(path: Path) -> None:
    own = CLUSTER.get(module_name(path).rpartition(".")[0], 0)
    up = [name for name in imports(path) for room, rank in CLUSTER.items() if name.startswith(room) and rank > own]
    assert not up, f"{module_name(path)} imports {up}"


def test_the_rule_sees_a_wrong_import(tmp_path: Path) -> None:
    """The checks above can fail: an upward import and a stray door are found."""
    assert room("udt_cluster.training.loop") == "udt_cluster.training"
    assert LAYERS[room("udt_cluster.cluster.driver.run")] > LAYERS[room("udt_cluster.training.loop")]
    sample = ROOT / "udt_cluster" / "cluster" / "driver" / "run.py"
    assert "udt_cluster.storage" in imports(sample)
