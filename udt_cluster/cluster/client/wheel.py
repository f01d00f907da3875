"""This package as a wheel, made of the files that run here, so that the cluster runs the very same code."""

import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import version
from pathlib import Path

from udt_cluster.config.home import udt_home

_PACKAGES = ("udt_cluster", "data_prep")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_wheel() -> Path:
    """Write the wheel below the home, unless the same one is there.

    It declares no dependencies: the nodes have theirs, and preflight compares the versions. The file's folder is named
    by its content, so equal code gives an equal file and Ray ships it once.
    """
    data = _wheel_bytes()
    name = f"udt_cluster-{version('udt-cluster')}-py3-none-any.whl"
    path = udt_home() / "wheels" / hashlib.sha256(data).hexdigest()[:16] / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        scratch.write_bytes(data)
        scratch.replace(path)
    return path


def _wheel_bytes() -> bytes:
    info = f"udt_cluster-{version('udt-cluster')}.dist-info"
    files = {
        **_sources(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: udt-cluster\nVersion: {version('udt-cluster')}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: udt-cluster\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _sources() -> dict[str, bytes]:
    root = Path(__file__).parents[3]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for package in _PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
