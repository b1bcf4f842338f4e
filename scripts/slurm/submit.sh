#!/usr/bin/env bash
# The whole line as jobs of a Slurm cluster, each stage once the one before it is done:
#
#   bash scripts/slurm/submit.sh CONFIG [key=value ...]               # prepare, train, infer, evaluate
#   FOLDS=0-2 bash scripts/slurm/submit.sh CONFIG [key=value ...]     # a run for each of these folds, side by side;
#                                                                     # the first one's model predicts
#   FOLDS=every bash scripts/slurm/submit.sh CONFIG [key=value ...]   # cross-validation: prepare, train, folds
#
# It prints the numbers of the jobs. Run it again after a failure: only what is missing is made. site.sh beside it has
# the settings (partitions, GPUs, memory, times); docs/cluster.md explains.
set -euo pipefail
HOUNSFIELD_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
scripts="$HOUNSFIELD_ROOT/scripts"
submitted=()

refuse() { printf '%s\n' "$*" >&2; exit 2; }

# setting SECTION [KEY]: print a value of the config.
setting() {
    PYTHONPATH="$HOUNSFIELD_ROOT" "$PY" -c '
import functools, sys
from pipeline.config.text import parse
print(functools.reduce(dict.get, sys.argv[1:], parse(sys.stdin.read(), "config")))' "$@" <<<"$config"
}

# submit STAGE [options of sbatch ...] -- [CONFIG] [key=value ...]: submit it to follow the jobs so far.
submit() {
    local stage="$1" options=() number="%j" after="" id
    shift
    while [ "$1" != -- ]; do
        case "$1" in --array=*) number="%A_%a" ;; esac
        options+=("$1")
        shift
    done
    shift
    [ ${#submitted[@]} -eq 0 ] || after="${submitted[${#submitted[@]} - 1]}"
    # In a file name Slurm replaces what follows a %.
    id="$(sbatch --parsable --export=ALL --job-name="$stage" --comment="$comment" \
        --output="${logs//%/%%}/$stage-$number.log" --signal="B:USR1@$NOTICE_S" \
        ${ACCOUNT:+"--account=$ACCOUNT"} ${after:+"--dependency=afterok:$after"} ${after:+--kill-on-invalid-dep=yes} \
        "${options[@]}" "$scripts/slurm/$stage.sbatch" "$@")"
    submitted+=("${id%%;*}") # a cluster's name may follow
    printf '%-9s %s\n' "$stage" "${id%%;*}"
}

take_back() { # a chain that could not be submitted to its end is no use
    [ $? -eq 0 ] || [ ${#submitted[@]} -eq 0 ] || scancel "${submitted[@]}"
}

if [ $# -eq 0 ]; then
    refuse "usage: bash scripts/slurm/submit.sh CONFIG [key=value ...], such as configs/head_neck.yaml work=runs/mine"
fi
command -v sbatch >/dev/null || refuse "sbatch: no such program; run this where Slurm's commands are, on a login node."
source "$scripts/slurm/site.sh"
source "$scripts/env.sh"
config="$("$PY" "$scripts/train.py" "$@" --print-config)" # what is wrong with it is said here and not in a job
work="$(setting work)"
mkdir -p "$work/log/slurm"
work="$(cd "$work" && pwd)"
logs="$work/log/slurm" comment="hounsfield $work"

# Two jobs that train one run would end each other again and again.
queued="$(squeue --noheader --user="$(id -un)" --format='%A %k' | awk -v comment="$comment" \
    '{ id = $1; sub(/^[0-9]+ /, ""); if ($0 == comment) print id }' | sort -nu | xargs)"
[ -z "$queued" ] || refuse "$work has jobs in the queue: $queued; wait for them, or take them out: scancel $queued"

if [ -z "$NOTICE_S" ]; then
    NOTICE_S="$(find "$work/train" -mindepth 2 -maxdepth 2 -name notice.json -exec cat {} + 2>/dev/null |
        awk -F'[:,]' 'BEGIN { most = 120 } /"notice_s"/ && $2 > most { most = int($2) } END { print most }' || true)"
fi

array="${FOLDS:-}"
if [ "$array" = every ]; then
    folds="$("$PY" "$scripts/folds.py" "$@" --count)"
    array="0-$((folds - 1))"
fi
on_cores=(${PARTITION:+"--partition=$PARTITION"})
on_gpus=(${GPU_PARTITION:+"--partition=$GPU_PARTITION"})
infer=("--gpus-per-node=$INFER_GPUS" "--cpus-per-task=$INFER_CPUS" "--mem=$INFER_MEMORY" "--time=$INFER_TIME")
export HOUNSFIELD_ROOT PY MAX_RESTARTS
trap take_back EXIT

submit prepare --array="1-$PREPARE_SHARDS" ${on_cores[@]+"${on_cores[@]}"} \
    --cpus-per-task="$PREPARE_CPUS" --mem="$PREPARE_MEMORY" --time="$PREPARE_TIME" -- "$@"
submit train ${array:+"--array=$array"} ${on_gpus[@]+"${on_gpus[@]}"} \
    --nodes="$TRAIN_NODES" --ntasks-per-node="$((TRAIN_GPUS > 0 ? TRAIN_GPUS : 1))" --gpus-per-node="$TRAIN_GPUS" \
    --cpus-per-task="$TRAIN_CPUS" --mem="$TRAIN_MEMORY" --time="$TRAIN_TIME" -- "$@"
if [ "${FOLDS:-}" = every ]; then
    submit folds ${on_gpus[@]+"${on_gpus[@]}"} "${infer[@]}" -- "$@"
else
    submit infer --array="1-$INFER_SHARDS" ${on_gpus[@]+"${on_gpus[@]}"} "${infer[@]}" -- \
        "$@" ${array:+train.fold="${array%%[!0-9]*}"}
    submit evaluate ${on_cores[@]+"${on_cores[@]}"} \
        --cpus-per-task="$EVALUATE_CPUS" --mem="$EVALUATE_MEMORY" --time="$EVALUATE_TIME" -- "$@"
fi

echo "logs      $logs"
echo "watch     squeue --jobs=$(IFS=,; echo "${submitted[*]}")"
echo "stop      scancel ${submitted[*]}"
