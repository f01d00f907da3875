#!/usr/bin/env bash
# requirements.lock anew, from pyproject.toml: exact versions with hashes of everything but torch.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
cp requirements.lock "$scratch"
.venv/bin/pip-compile --quiet --generate-hashes --unsafe-package torch --no-header --strip-extras --extra dev \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file "$scratch" pyproject.toml 2>/dev/null
{
  echo "# Exact versions and hashes of everything but torch, whose CPU and CUDA builds are different files of one version"
  echo "# (infra/setup.sh installs it). Made by \`make lock\`."
  sed -e '/^# WARNING: The following packages were not pinned/,$d' -e '/^# Exact versions/d' -e '/^# (infra\/setup.sh/d' "$scratch"
} > requirements.lock
