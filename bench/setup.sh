#!/usr/bin/env bash
# Make the environment with the peers that the benchmarks compare with: nnU-Net, MONAI and TorchIO.
#
#   bash bench/setup.sh [FOLDER]
#
# FOLDER: where it is made, bench/peers by default. The benchmarks look there; PEERS=/path/to/python names another one.
# The project's own environment is not touched.
set -euo pipefail
bench="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$bench/peers}"
stamp="$folder/.made"
wanted="$(cksum <"$bench/peers.txt")"

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    echo "The peers are in $folder"
    exit
fi
if [ -e "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    echo "$folder: holds something that this script did not make; give another folder." >&2
    exit 2
fi
torch="$(sed -n 's/^torch==/torch==/p' "$bench/../constraints.txt")"
echo "Installing the peers into $folder, once, some minutes ..."
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$torch"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$bench/peers.txt"
"$folder/bin/python" -c 'import monai, nnunetv2, torchio' # fails here rather than in the middle of a benchmark
printf '%s\n' "$wanted" >"$stamp"
echo "The peers are in $folder"
