"""The shell scripts: what they set up, what they refuse and in which sentence, and how they hand on a failure.

Copies of the scripts run in a folder with a space in its name. Where an installation would take a minute, a virtual
environment is made for real and only pip is a stand-in, which notes that it was called.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON_NAMES = ("python3.13", "python3.12", "python3.11", "python3", "python")
STAGES = ("prepare", "train", "infer", "evaluate")

SYSTEM_PYTHON = """#!/bin/sh
# A system's Python that makes real environments, with a pip in them that only notes its arguments.
if [ "$1 $2" = "-m venv" ]; then
    {python} -m venv --without-pip "$3" || exit 1
    pip="$(echo "$3"/lib/python3.*/site-packages)/pip"
    mkdir "$pip"
    touch "$pip/__init__.py"
    cp "{pip}" "$pip/__main__.py"
else
    exec {python} "$@"
fi
"""
PIP = """
import os, sys, time
with open({calls!r}, "a") as calls:
    print(*sys.argv[1:], file=calls)
time.sleep(0.5)
if os.path.exists({failing!r}):
    sys.exit("ERROR: no route to the package index")
"""
STAGE = """
import sys
with open({calls!r}, "a") as calls:
    print({stage!r}, *sys.argv[1:], sep="|", file=calls)
sys.exit({exit_code})
"""


@dataclass(frozen=True)
class Sandbox:
    """A copy of the project's scripts, a PATH whose Pythons a test chooses, and a log of what was called."""

    root: Path
    programs: Path
    calls: Path
    elsewhere: Path

    def program(self, name: str, text: str) -> Path:
        """Put a shell script of this name on the PATH."""
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def system_pythons(self, text: str) -> None:
        """Let every name under which a Python may be found run this shell script."""
        for name in PYTHON_NAMES:
            self.program(name, text)

    def working_system_python(self) -> None:
        pip = self.programs / "pip_main.py"
        pip.write_text(PIP.format(calls=str(self.calls), failing=str(self.failing)))
        self.system_pythons(SYSTEM_PYTHON.format(python=sys.executable, pip=pip))

    @property
    def failing(self) -> Path:
        """While this file is there, pip fails."""
        return self.programs / "pip_fails"

    def stage(self, name: str, exit_code: int) -> None:
        """Let a stage note its arguments and end with `exit_code`."""
        text = STAGE.format(calls=str(self.calls), stage=name, exit_code=exit_code)
        (self.root / "scripts" / f"{name}.py").write_text(text)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run bash with `command` from a folder outside the project."""
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.elsewhere), **variables}
        return subprocess.run(
            ["bash", *command], cwd=self.elsewhere, env=environment, capture_output=True, text=True, timeout=300
        )

    def source(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Source env.sh as the scripts do and print PY."""
        return self.run("-c", 'set -euo pipefail; source "$0"; echo "$PY"', str(self.env), **variables)

    @property
    def env(self) -> Path:
        return self.root / "scripts" / "env.sh"

    @property
    def venv(self) -> Path:
        return self.root / ".venv"


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "the project"
    (root / "scripts").mkdir(parents=True)
    for script in (ROOT / "scripts").glob("*.sh"):
        shutil.copy(script, root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    made = Sandbox(root, tmp_path / "bin", tmp_path / "calls", tmp_path / "else where")
    made.programs.mkdir()
    made.elsewhere.mkdir()
    return made


def bare_venv(folder: Path) -> Path:
    """Make an environment without any package; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


# PYTHON=


def test_a_given_python_that_has_everything_is_used_as_it_is(sandbox: Sandbox) -> None:
    result = sandbox.source(PYTHON=sys.executable, HOUNSFIELD_EXTRA="test")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == sys.executable
    assert not sandbox.venv.exists()


def test_a_given_python_is_made_absolute_without_following_links(sandbox: Sandbox) -> None:
    (sandbox.elsewhere / "env").symlink_to(Path(sys.executable).parents[1])
    result = sandbox.source(PYTHON=f"env/bin/{Path(sys.executable).name}")
    assert result.stdout.strip() == str(sandbox.elsewhere / "env" / "bin" / Path(sys.executable).name)


def test_a_given_python_without_the_packages_is_refused_with_their_names(sandbox: Sandbox) -> None:
    result = sandbox.source(PYTHON=str(bare_venv(sandbox.elsewhere / "bare")))
    assert result.returncode == 2
    assert "bare/bin/python lacks connected-components-3d" in result.stderr
    assert "torch>=" in result.stderr and "install them there" in result.stderr
    assert "pytest>=" not in result.stderr


def test_for_the_tests_a_given_python_must_have_the_test_packages(sandbox: Sandbox) -> None:
    result = sandbox.source(PYTHON=str(bare_venv(sandbox.elsewhere / "bare")), HOUNSFIELD_EXTRA="test")
    assert result.returncode == 2
    assert "pytest>=" in result.stderr


def test_a_given_python_that_is_too_old_is_refused_with_its_version(sandbox: Sandbox) -> None:
    old = sandbox.program("old", "#!/bin/sh\necho 3.9.18\n")
    result = sandbox.source(PYTHON=str(old))
    assert result.returncode == 2
    assert result.stderr == f"PYTHON={old} is Python 3.9.18; 3.11 or newer is needed.\n"


def test_a_given_python_that_is_not_there_is_refused(sandbox: Sandbox) -> None:
    result = sandbox.source(PYTHON="/no/such/python")
    assert result.returncode == 2
    assert result.stderr == "PYTHON=/no/such/python: no such program; give a Python 3.11 or newer.\n"


def test_a_given_program_that_is_no_python_is_refused(sandbox: Sandbox) -> None:
    result = sandbox.source(PYTHON=str(sandbox.program("broken", "#!/bin/sh\nexit 1\n")))
    assert result.returncode == 2
    assert "does not run" in result.stderr


# Python on the PATH


def test_only_old_pythons_on_the_path_are_refused_with_their_versions(sandbox: Sandbox) -> None:
    sandbox.system_pythons("#!/bin/sh\necho 3.9.18\n")
    result = sandbox.source()
    assert result.returncode == 2
    assert "Python 3.11 or newer was not found on PATH" in result.stderr
    assert "python3 is 3.9.18" in result.stderr


def test_a_machine_without_python_is_told_so(sandbox: Sandbox) -> None:
    sandbox.system_pythons("#!/bin/sh\nexit 127\n")
    result = sandbox.source()
    assert result.returncode == 2
    assert "not found on PATH (no Python at all); install it" in result.stderr


def test_a_python_without_the_venv_module_is_refused_with_the_package_to_install(sandbox: Sandbox) -> None:
    sandbox.system_pythons('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\necho 3.12.1\n')
    result = sandbox.source()
    assert result.returncode == 2
    assert "python3.13 has no venv module" in result.stderr
    assert "sudo apt install python3.13-venv" in result.stderr


def test_a_python_that_works_is_preferred_to_one_that_is_too_old_or_has_no_venv(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    sandbox.program("python3.13", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\necho 3.13.0\n')
    sandbox.program("python3.12", "#!/bin/sh\necho 3.9.18\n")
    result = sandbox.source()
    assert result.returncode == 0, result.stderr
    assert f"Making the Python environment in {sandbox.venv} with python3.11" in result.stderr


# The environment


def test_the_environment_is_made_once_and_the_second_run_says_one_line(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    first, second = sandbox.source(), sandbox.source()
    assert first.stdout == second.stdout == f"{sandbox.venv}/bin/python\n"
    assert second.stderr == f"Python environment: {sandbox.venv}\n"
    assert len(sandbox.called()) == 1
    assert sandbox.called()[0].endswith("install -e .[test] -c constraints.txt")


def test_venv_moves_the_environment_and_may_be_relative(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    result = sandbox.source(VENV="my env")
    assert result.stdout == f"{sandbox.elsewhere}/my env/bin/python\n"
    assert not sandbox.venv.exists()


def test_a_failed_installation_shows_why_and_is_tried_again(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    sandbox.failing.touch()
    failed = sandbox.source()
    assert failed.returncode == 2 and failed.stdout == ""
    assert "ERROR: no route to the package index" in failed.stderr
    assert f"{sandbox.venv}/install.log" in failed.stderr
    sandbox.failing.unlink()
    assert sandbox.source().returncode == 0
    assert len(sandbox.called()) == 2


def test_changed_requirements_make_the_environment_again(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    sandbox.source()
    left_over = sandbox.venv / "left_over"
    left_over.touch()
    with (sandbox.root / "constraints.txt").open("a") as file:
        file.write("einops==0.8.0\n")
    assert sandbox.source().returncode == 0
    assert len(sandbox.called()) == 2
    assert not left_over.exists()


def test_a_moved_project_makes_its_environment_again(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    sandbox.source()
    moved = shutil.move(sandbox.root, sandbox.elsewhere / "moved")
    result = sandbox.run("-c", 'set -e; source "$0"; echo "$PY"', f"{moved}/scripts/env.sh")
    assert result.stdout == f"{moved}/.venv/bin/python\n"
    assert len(sandbox.called()) == 2


def test_a_folder_with_something_else_in_it_is_refused_and_kept(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    precious = sandbox.elsewhere / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.touch()
    result = sandbox.source(VENV=str(precious.parent))
    assert result.returncode == 2
    assert "holds something that this script did not make; give another folder" in result.stderr
    assert list(precious.parent.iterdir()) == [precious]


def test_a_folder_that_cannot_be_made_is_refused(sandbox: Sandbox) -> None:
    (sandbox.elsewhere / "file").touch()
    result = sandbox.source(VENV=f"{sandbox.elsewhere}/file/venv")
    assert result.returncode == 2
    assert result.stderr == f"VENV={sandbox.elsewhere}/file/venv: this folder cannot be made; give another one.\n"


def test_a_file_in_place_of_the_folder_is_named(sandbox: Sandbox) -> None:
    file = sandbox.elsewhere / "file"
    file.touch()
    result = sandbox.source(VENV=str(file))
    assert result.returncode == 2
    assert result.stderr == f"VENV={file}: a file stands there; move it, or give another folder.\n"


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_at_once_make_one_environment(sandbox: Sandbox) -> None:
    sandbox.working_system_python()
    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(sandbox.source) for _ in range(2)]]
    assert [result.stdout for result in results] == [f"{sandbox.venv}/bin/python\n"] * 2
    assert len(sandbox.called()) == 1


@pytest.mark.slow
def test_a_real_environment_can_import_what_the_project_needs(sandbox: Sandbox) -> None:
    shutil.copytree(ROOT / "pipeline", sandbox.root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, sandbox.root)
    own = {name: value for name, value in os.environ.items() if name not in ("PATH", "PYTHON", "VENV")}
    made = sandbox.source(**own)  # what pip is told by its settings and variables is needed here
    assert made.returncode == 0, made.stderr
    check = "import monai, pipeline, torch; print(pipeline.__file__)"
    imported = subprocess.run(
        [made.stdout.strip(), "-c", check], cwd=sandbox.elsewhere, capture_output=True, text=True, check=True
    )
    assert imported.stdout.strip() == str(sandbox.root / "pipeline" / "__init__.py")


# The chain


def test_run_all_runs_the_four_stages_in_order_with_all_arguments(sandbox: Sandbox) -> None:
    for stage in STAGES:
        sandbox.stage(stage, 0)
    arguments = ("my config.yaml", "work=runs/a b", "train.steps=5")
    result = sandbox.run(f"{sandbox.root}/scripts/run_all.sh", *arguments, PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert sandbox.called() == ["|".join((stage, *arguments)) for stage in STAGES]


def test_run_all_stops_at_the_first_stage_that_fails_with_its_exit_code(sandbox: Sandbox) -> None:
    for stage, exit_code in zip(STAGES, (0, 75, 0, 0), strict=True):
        sandbox.stage(stage, exit_code)
    result = sandbox.run(f"{sandbox.root}/scripts/run_all.sh", "a.yaml", PYTHON=sys.executable)
    assert result.returncode == 75
    assert sandbox.called() == ["prepare|a.yaml", "train|a.yaml"]


def test_run_all_without_a_config_says_how_it_is_used(sandbox: Sandbox) -> None:
    result = sandbox.run(f"{sandbox.root}/scripts/run_all.sh", PYTHON=sys.executable)
    assert result.returncode == 2
    assert "usage: bash scripts/run_all.sh CONFIG [key=value ...]" in result.stderr


def test_run_all_starts_no_stage_without_an_environment(sandbox: Sandbox) -> None:
    sandbox.stage("prepare", 0)
    result = sandbox.run(f"{sandbox.root}/scripts/run_all.sh", "a.yaml", PYTHON="/no/such/python")
    assert result.returncode == 2
    assert sandbox.called() == []


def test_the_demo_works_in_the_project_and_ends_with_where_the_results_lie(sandbox: Sandbox) -> None:
    for stage in STAGES:
        sandbox.stage(stage, 0)
    result = sandbox.run(f"{sandbox.root}/scripts/demo.sh", "train.steps=5", PYTHON=sys.executable)
    work, source = sandbox.root / "runs" / "demo", sandbox.root / "examples" / "head_neck"
    config = sandbox.root / "configs" / "head_neck.yaml"
    assert sandbox.called() == [f"{s}|{config}|data.source={source}|train.steps=5|work={work}" for s in STAGES]
    assert f"{work}/predict" in result.stdout and f"{work}/evaluate" in result.stdout
    assert f'"{sys.executable}" -m tensorboard.main --logdir "{work}/train"' in result.stdout


def test_the_demo_goes_where_the_user_says(sandbox: Sandbox) -> None:
    for stage in STAGES:
        sandbox.stage(stage, 0)
    result = sandbox.run(f"{sandbox.root}/scripts/demo.sh", "work=/tmp/other run", PYTHON=sys.executable)
    assert sandbox.called()[0].endswith("|work=/tmp/other run")
    assert "/tmp/other run/predict" in result.stdout


def test_the_demo_says_nothing_of_results_after_a_failure(sandbox: Sandbox) -> None:
    sandbox.stage("prepare", 1)
    result = sandbox.run(f"{sandbox.root}/scripts/demo.sh", PYTHON=sys.executable)
    assert result.returncode == 1
    assert result.stdout == ""


def test_test_sh_hands_its_arguments_to_pytest(sandbox: Sandbox) -> None:
    tests = sandbox.root / "tests"
    tests.mkdir()
    (tests / "test_two.py").write_text(
        "import pytest\n\n\ndef test_fast():\n    pass\n\n\n@pytest.mark.slow\ndef test_slow():\n    pass\n"
    )
    script = f"{sandbox.root}/scripts/test.sh"
    assert "1 passed, 1 deselected" in sandbox.run(script, PYTHON=sys.executable).stdout
    assert "2 passed" in sandbox.run(script, "--all", PYTHON=sys.executable).stdout
    assert "2 deselected" in sandbox.run(script, "-k", "nothing", PYTHON=sys.executable).stdout


def test_test_sh_fails_on_lint_before_it_runs_tests(sandbox: Sandbox) -> None:
    (sandbox.root / "untidy.py").write_text("import os\n")
    result = sandbox.run(f"{sandbox.root}/scripts/test.sh", PYTHON=sys.executable)
    assert result.returncode != 0
    assert "F401" in result.stdout and "passed" not in result.stdout
