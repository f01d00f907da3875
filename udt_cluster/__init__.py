"""udt-cluster: from a folder of medical images and masks to a registered segmentation model.

Two names are public here; everything else has a room of its own (`udt_cluster.models`, `udt_cluster.evaluation`, ...).
`load_model` is imported when it is first asked for, because torch takes seconds and `udt-cluster --help` must not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udt_cluster.evaluation.model import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Import `load_model` on first use (PEP 562)."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from udt_cluster.evaluation.model import load_model

    globals()[name] = load_model
    return load_model


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
