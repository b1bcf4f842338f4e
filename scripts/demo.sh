#!/usr/bin/env bash
# The whole line on the 16 head-and-neck CTs that come with the project, into runs/demo:
#
#   bash scripts/demo.sh [key=value ...]
#
# Run it again after an interruption and it goes on; scripts/run_all.sh says what the stages do.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="$root/runs/demo"
for override in "$@"; do
    case "$override" in work=*) work="${override#work=}" ;; esac
done

# Sourced, as the last lines need the PY that it sets.
source "$root/scripts/run_all.sh" "$root/configs/head_neck.yaml" \
    data.source="$root/examples/head_neck" "$@" work="$work"

cat <<END

Segmentations    $work/predict
Scores           $work/evaluate
Model            $work/train
Training curves  "$PY" -m tensorboard.main --logdir "$work/train"
END
