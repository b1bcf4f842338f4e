#!/usr/bin/env bash
# Lint, then the tests:
#
#   bash scripts/test.sh [--all] [pytest arguments ...]
#
# --all runs the slow ones too.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
arguments=()
for argument in "$@"; do
    if [ "$argument" = --all ]; then arguments+=(-m ""); else arguments+=("$argument"); fi
done

HOUNSFIELD_EXTRA=test
source "$root/scripts/env.sh"

cd "$root"
"$PY" -m ruff check --quiet .
"$PY" -m pytest -q ${arguments[@]+"${arguments[@]}"} # an empty array is unset to the bash of macOS
