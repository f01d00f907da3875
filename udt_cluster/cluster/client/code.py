"""The code that runs here as Ray ships it, so that the cluster runs the very same."""

from pathlib import Path

PACKAGES = ("udt_cluster", "data_prep")


def shipped_code() -> dict[str, list[str]]:
    """The part of a runtime environment that brings this package to the nodes.

    Folders, not a wheel: Ray knows a folder by its content, and a wheel by its name alone, so that changed code of
    the same version would not arrive; and two environments with the same wheel, set up on a node at once, delete it.
    The dependencies are not shipped: the nodes have theirs, and preflight compares the versions.
    """
    root = Path(__file__).parents[3]
    return {"py_modules": [str(root / package) for package in PACKAGES], "excludes": ["__pycache__"]}
