"""Where this user's state lies: profiles, the embedded servers, the index of files already hashed."""

import json
import os
from pathlib import Path
from typing import Any

HOME_VARIABLE = "UDT_HOME"


def udt_home() -> Path:
    """`$UDT_HOME`, or `~/.udt-cluster`; made on first use, readable by its owner alone."""
    home = Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".udt-cluster").expanduser().absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def read_state(name: str) -> dict[str, Any]:
    """A JSON file of the home, or an empty mapping where there is none."""
    try:
        loaded = json.loads((udt_home() / name).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def write_state(name: str, state: dict[str, Any]) -> None:
    """Replace a JSON file of the home in one step, readable by its owner alone."""
    path = udt_home() / name
    scratch = path.with_name(f".{name}.{os.getpid()}")
    scratch.touch(mode=0o600)
    scratch.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
    scratch.replace(path)
