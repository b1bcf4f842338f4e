# Sourced by the other scripts: finds or makes the Python environment and sets PY to its interpreter.
#
#   PYTHON=/path/to/python   use this one as it is (conda, uv, container, cluster module): what is missing is named,
#                            nothing is installed
#   VENV=/path/to/folder     make the environment there instead of in .venv of the project
#
# pip's own settings count as always. PyPI's torch for Linux brings CUDA, some gigabytes; without an NVIDIA GPU
#   PIP_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_EXTRA_INDEX_URL=https://pypi.org/simple
# gives the smaller CPU build.

# Prints the interpreter's path; $1 is this file. In a subshell, so that options and names stay out of the caller's.
environment() (
    set -euo pipefail
    root="$(cd "$(dirname "$1")/.." && pwd)"

    say() { printf '%s\n' "$*" >&2; }
    refuse() { say "$*"; exit 2; }

    version_of() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null; }
    new_enough() {
        IFS=. read -r major minor _ <<<"$1"
        [ "$major" -gt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -ge 11 ]; }
    }

    # What pyproject.toml asks for and the interpreter $1 lacks; HOUNSFIELD_EXTRA names an extra that counts too.
    missing_packages() {
        "$1" - "$root/pyproject.toml" "${HOUNSFIELD_EXTRA:-}" <<'PYTHON_CODE'
import re, sys, tomllib
from importlib.metadata import PackageNotFoundError, distribution

project = tomllib.load(open(sys.argv[1], "rb"))["project"]
missing = []
for requirement in project["dependencies"] + project["optional-dependencies"].get(sys.argv[2], []):
    name = re.match(r"[\w.-]+", requirement)[0]
    try:
        distribution(name)
    except PackageNotFoundError:
        missing.append(requirement)
print(", ".join(missing))
PYTHON_CODE
    }

    use_given() {
        python="$(command -v "$PYTHON")" || refuse "PYTHON=$PYTHON: no such program; give a Python 3.11 or newer."
        python="$(cd "$(dirname "$python")" && pwd)/$(basename "$python")"
        version="$(version_of "$python")" || refuse "PYTHON=$PYTHON does not run; give a Python 3.11 or newer."
        new_enough "$version" || refuse "PYTHON=$PYTHON is Python $version; 3.11 or newer is needed."
        missing="$(missing_packages "$python")"
        [ -z "$missing" ] || refuse "PYTHON=$PYTHON lacks $missing; install them there, or leave PYTHON out" \
            "and an environment is made in .venv."
        say "Python environment: $python (as given)"
    }

    find_python() {
        found="" without_venv=""
        for name in python3.13 python3.12 python3.11 python3 python; do
            version="$(version_of "$name")" || continue
            if ! new_enough "$version"; then
                found="$found, $name is $version"
            elif ! "$name" -c 'import venv, ensurepip' 2>/dev/null; then
                without_venv="${without_venv:-$name}"
            else
                base="$name"
                return
            fi
        done
        [ -z "$without_venv" ] || refuse "$without_venv has no venv module (ensurepip); install it" \
            "(Debian, Ubuntu: sudo apt install $without_venv-venv), or name an environment: PYTHON=/path/to/python."
        found="${found#, }"
        refuse "Python 3.11 or newer was not found on PATH (${found:-no Python at all}); install it," \
            "or name an environment: PYTHON=/path/to/python."
    }

    is_ready() { [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; }

    make_venv() { # the stamp file marks the folder as ours from the start, and holds the hash only at the end
        [ -w "$venv" ] || refuse "VENV=$venv: this folder cannot be written; give another one."
        # In this order: a setup at the same moment puts the stamp there first of all.
        [ -z "$(ls -A "$venv")" ] || [ -e "$stamp" ] || refuse "VENV=$venv holds something that this script did not" \
            "make; give another folder, or use the environment that is there: PYTHON=$venv/bin/python."
        exec 9>>"$stamp"
        if command -v flock >/dev/null && ! flock -n 9; then
            say "Waiting for another setup of $venv ..."
            flock 9
        fi
        is_ready && return
        find_python
        say "Making the Python environment in $venv with $base, once, some minutes. Log: $log"
        : >"$stamp"
        find "$venv" -mindepth 1 -maxdepth 1 ! -name "$(basename "$stamp")" -exec rm -rf {} +
        cd "$root"
        if ! { "$base" -m venv "$venv" && "$venv/bin/python" -m pip --disable-pip-version-check --no-input \
            install -e '.[test]' -c constraints.txt; } >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            refuse "The environment could not be made: see above and $log; cure that and run the same command again."
        fi
        printf '%s\n' "$wanted" >"$stamp"
    }

    use_venv() {
        venv="${VENV:-$root/.venv}"
        [ ! -e "$venv" ] || [ -d "$venv" ] || refuse "VENV=$venv: a file stands there; move it, or give another folder."
        mkdir -p "$venv" 2>/dev/null || refuse "VENV=$venv: this folder cannot be made; give another one."
        venv="$(cd "$venv" && pwd)"
        stamp="$venv/.hounsfield"
        log="$venv/install.log"
        wanted="$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum) $root $venv" # a moved one is made again
        is_ready || make_venv
        python="$venv/bin/python"
        say "Python environment: $venv"
    }

    if [ -n "${PYTHON:-}" ]; then use_given; else use_venv; fi
    printf '%s\n' "$python"
)

# No "|| exit": that would switch errexit off inside; the caller's own errexit ends it with status 2.
PY="$(environment "${BASH_SOURCE[0]:-$0}")" # $0 is for zsh
