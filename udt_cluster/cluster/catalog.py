"""Models of a target, and its pages, as a person asks for them."""

from typing import Any

from udt_cluster.cluster import local
from udt_cluster.cluster.connection import check
from udt_cluster.cluster.targets import Target


def models(target: Target) -> list[dict[str, Any]]:
    """Every model version: name, version, aliases, metrics, data_version, run_id."""
    from udt_cluster.tracking import Tracker, list_models

    found: list[dict[str, Any]] = list_models(Tracker(_tracking(target)))
    return found


def show_model(target: Target, reference: str) -> dict[str, Any]:
    """One model version with its tags."""
    from udt_cluster.tracking import Tracker, show

    found: dict[str, Any] = show(reference, tracker=Tracker(_tracking(target)))
    return found


def _tracking(target: Target) -> str:
    if target.is_local:
        target = local.ensure(target, need_ray=False)
    assert target.tracking is not None
    return target.tracking


def dashboards(target: Target) -> dict[str, str]:
    """URLs of Ray's and MLflow's pages; the local servers are started if need be."""
    if target.is_local:
        target = local.ensure(target)
    check(target)
    return {"ray": target.jobs_api or "", "mlflow": target.tracking or ""}
