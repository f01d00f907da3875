"""Verbs about running servers: dashboard, down."""

import typer

from udt_cluster.cli.options import AsJson, TargetName
from udt_cluster.cli.output import say, show, show_json, show_pairs


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(dashboard)
    app.command()(down)


def dashboard(target: TargetName = None, as_json: AsJson = False) -> None:
    """Print the addresses of the web pages.

    Those of Ray and of MLflow. The local servers are started if need be.
    """
    from udt_cluster.cluster.client.catalog import dashboards
    from udt_cluster.cluster.client.targets import current_target

    found = dashboards(current_target(target))
    if as_json:
        show_json(found)
    else:
        show_pairs(list(found.items()))


def down(as_json: AsJson = False) -> None:
    """Stop the local servers.

    What runs on them is stopped, too. Data, models and records stay.
    """
    from udt_cluster.cluster.client.local import down as stop_servers

    stopped = stop_servers()
    if as_json:
        show_json({"stopped": stopped})
        return
    for line in stopped:
        show(f"stopped {line}")
    if not stopped:
        say("Nothing was running.")
