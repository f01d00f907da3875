#!/usr/bin/env bash
# The main job from nothing to a registered model: quickstart.sh [FOLDER of ACDC data]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
data=${1:-}
name=quickstart-acdc   # real data do not go by the phantoms' name
if [ -z "$data" ]; then
  name=phantom-udtransnet
  data=runs/phantoms
  [ -f "$data/README.txt" ] || "$bin/python" -m data_prep.phantom acdc "$data" --patients 10 --seed 7
  echo "quickstart: synthetic cardiac phantoms in $data; your own ACDC folder: make quickstart DATA=/path/to/ACDC" >&2
fi
exec "$bin/udt-cluster" submit jobs/phantom.yaml --set "name=$name" --set "data.source=$data" --wait
