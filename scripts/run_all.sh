#!/usr/bin/env bash
# From a folder of CTs and labels to scored segmentations:
#
#   bash scripts/run_all.sh CONFIG [key=value ...]
#
# Every stage leaves its results in the config's `work` folder and skips what is already there:
#   prepare    brings each CT and its label to the training grid       -> store/
#   train      fits the network, keeps the best by validation Dice     -> train/
#   infer      segments the test CTs, each on its own grid             -> predict/
#   evaluate   compares them with the truth                            -> evaluate/
# The first stage that fails ends the chain with its exit code; the same command goes on from there.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

if [ $# -eq 0 ]; then
    echo "usage: bash scripts/run_all.sh CONFIG [key=value ...], such as configs/head_neck.yaml work=runs/mine" >&2
    exit 2
fi
source "$scripts/env.sh"

for stage in prepare train infer evaluate; do
    "$PY" "$scripts/$stage.py" "$@"
done
