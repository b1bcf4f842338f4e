#!/usr/bin/env bash
# Cross-validation: a model for each fold, and the scores of every training case by the model that has not seen it:
#
#   bash scripts/run_folds.sh CONFIG [key=value ...]
#
#   prepare    brings each CT and its label to the training grid                   -> store/
#   train      fits a network for each of the data.folds folds                     -> train/fold0/, train/fold1/, ...
#   folds      segments what each fold held out and scores it on the CT's own grid -> folds/
# A data set that names its validation cases has one fold, which they are. What is there already is skipped. The first
# stage that fails ends the chain with its exit code; the same command goes on from there.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

if [ $# -eq 0 ]; then
    echo "usage: bash scripts/run_folds.sh CONFIG [key=value ...], such as configs/head_neck.yaml work=runs/folds" >&2
    exit 2
fi
source "$scripts/env.sh"

folds="$("$PY" "$scripts/folds.py" "$@" --count)"
"$PY" "$scripts/prepare.py" "$@"
for ((fold = 0; fold < folds; fold++)); do
    "$PY" "$scripts/train.py" "$@" train.fold="$fold"
done
"$PY" "$scripts/folds.py" "$@"
