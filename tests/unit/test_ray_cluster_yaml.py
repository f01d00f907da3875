"""The cluster-launcher file passes Ray's own preparation and validation."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def cluster_config() -> dict[str, Any]:
    return dict(YAML(typ="safe").load((ROOT / "ray_cluster.yaml").read_text()))


def test_ray_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster_config())
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "gpu_worker"}
    assert prepared["available_node_types"]["gpu_worker"]["max_workers"] == 8


def test_ray_refuses_a_broken_cluster_file() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    broken = {**cluster_config(), "max_workers": "many"}
    with pytest.raises((ValidationError, TypeError, ValueError)):
        validate_config(prepare_config(broken))


def test_every_node_starts_with_a_token_and_no_open_dashboard() -> None:
    config = cluster_config()
    starts = [line for key in ("head_start_ray_commands", "worker_start_ray_commands") for line in config[key]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert not any("dashboard-host=0.0.0.0" in line for line in starts)
