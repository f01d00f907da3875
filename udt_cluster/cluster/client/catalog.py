"""Models of a target, and its pages, as a person asks for them."""

from typing import Any

from udt_cluster.cluster.client import local
from udt_cluster.cluster.client.connection import check
from udt_cluster.cluster.client.targets import Target


def models(target: Target, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Model versions: name, version, aliases, metrics, data_version, run_id.

    Args:
        target: Whose registry.
        limit: Only so many, the newest first; by default all, by name.
    """
    from udt_cluster.tracking import Tracker, list_models

    found: list[dict[str, Any]] = list_models(Tracker(_tracking(target)), limit=limit)
    return found


def show_model(target: Target, reference: str) -> dict[str, Any]:
    """One model version with its tags."""
    from udt_cluster.tracking import Tracker, show

    found: dict[str, Any] = show(reference, tracker=Tracker(_tracking(target)))
    return found


def remove_model(target: Target, reference: str, *, force: bool = False) -> dict[str, Any]:
    """Remove one model version; its summary. One that an alias stands for stays, unless `force`.

    Raises:
        UsageError: there is none such, or the name alone could mean several.
        RefusedError: an alias stands for it.
    """
    from udt_cluster.tracking import Tracker, delete_version

    removed: dict[str, Any] = delete_version(reference, tracker=Tracker(_tracking(target)), force=force).summary()
    return removed


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
