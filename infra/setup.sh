#!/usr/bin/env bash
# Make the virtual environment: setup.sh FOLDER. Needs Python 3.11 with venv, and a package registry.
set -euo pipefail
venv=$1
python=${PYTHON:-python3.11}
torch=2.13.0

command -v "$python" >/dev/null || { echo "setup: $python is not on the PATH; install Python 3.11, or say PYTHON=/path/to/python3.11" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "setup: $python is not Python 3.11" >&2; exit 2; }

echo "setup: virtual environment $venv" >&2
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# torch is the one package without a hash: its CPU and CUDA builds are different files of one version. A CPU wheel is
# taken where pip finds one (--find-links, an index of your own); elsewhere the registry's build brings CUDA with it.
echo "setup: torch $torch" >&2
pip install "torch==$torch"
echo "setup: the locked packages (hashes are checked)" >&2
DS_BUILD_OPS=0 pip install --require-hashes --no-deps -r requirements.lock
pip install --no-deps --no-build-isolation --editable .
