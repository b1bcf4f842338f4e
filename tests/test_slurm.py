"""The batch scripts where there is no Slurm: what would be submitted, and how a job ends by its stage's exit code.

Slurm's commands are stand-ins that note their arguments; tests/slurm/ runs the same scripts on a real one.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SLURM = ROOT / "scripts" / "slurm"
BATCH_FILES = sorted(SLURM.glob("*.sbatch"))
SHELL_FILES = sorted([*BATCH_FILES, *SLURM.glob("*.sh")])
CONFIG = str(ROOT / "configs" / "head_neck.yaml")
STAGES = ("prepare", "train", "infer", "evaluate")

# A Slurm command: notes its name and words, divided by a character that no word has, then does what the test wants.
COMMAND = r"""#!/usr/bin/env bash
calls="{calls}" name="${{0##*/}}"
printf '%s\037' "$name" "$@" >>"$calls"
echo >>"$calls"
{does}
"""
NUMBERED = 'echo $((100 + $(grep -c "^$name" "$calls")))'
JOB = {"SLURM_JOB_ID": "71", "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "2", "SLURM_SUBMIT_DIR": str(ROOT)}
TASK = JOB | {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}


@dataclass(frozen=True)
class Sandbox:
    """Stand-ins of Slurm's commands on the PATH, and a folder to be in."""

    programs: Path
    calls: Path
    here: Path

    def command(self, name: str, does: str = "") -> None:
        """Put a stand-in on the PATH; does: shell code."""
        path = self.programs / name
        path.write_text(COMMAND.format(calls=self.calls, does=does))
        path.chmod(0o755)

    def called(self, name: str) -> list[list[str]]:
        """Return the words of each call of a command."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [words for found, *words, _ in (line.split("\037") for line in lines) if found == name]

    def run(self, script: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.here)}
        environment |= {"PYTHON": sys.executable, **variables}
        command = ["bash", str(script), *words]
        return subprocess.run(command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=120)

    def submit(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(SLURM / "submit.sh", *words, **variables)


def sandbox_in(folder: Path) -> Sandbox:
    made = Sandbox(folder / "bin", folder / "calls", folder / "some where")
    made.programs.mkdir()
    made.here.mkdir()
    made.command("sbatch", NUMBERED)
    made.command("squeue")
    made.command("scancel")
    return made


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return sandbox_in(tmp_path)


def option(words: list[str], name: str) -> str:
    """Return the value of an option that is given once."""
    [found] = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return found


def after(words: list[str]) -> list[str]:
    """Return what the batch file is given."""
    [position] = [i for i, word in enumerate(words) if word.endswith(".sbatch")]
    return words[position + 1 :]


# Files


@pytest.mark.parametrize("file", SHELL_FILES, ids=lambda file: file.name)
def test_bash_can_read_every_script(file: Path) -> None:
    result = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("file", BATCH_FILES, ids=lambda file: file.name)
def test_every_batch_file_stops_at_errors_and_can_be_requeued_with_notice(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=B:USR1@120"} <= set(lines)


@pytest.mark.parametrize("file", [*BATCH_FILES, SLURM / "stage.sh"], ids=lambda file: file.name)
def test_batch_files_never_install(file: Path) -> None:
    code = [line for line in file.read_text().splitlines() if not line.lstrip().startswith(("#", '"'))]
    assert not [line for line in code if "pip" in line.replace("pipefail", "") or "env.sh" in line]


# Submitting


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sandbox, dict[str, list[str]], list[str]]:
    """Submit once; return where, the words of each stage's sbatch, and the printed lines."""
    sandbox = sandbox_in(tmp_path_factory.mktemp("submitted"))
    site = {
        "ACCOUNT": "lab", "PARTITION": "cpu", "GPU_PARTITION": "gpu", "TRAIN_NODES": "2", "TRAIN_GPUS": "4",
        "TRAIN_CPUS": "6", "TRAIN_MEMORY": "90G", "TRAIN_TIME": "2:00:00", "PREPARE_SHARDS": "9", "NOTICE_S": "300",
    }  # fmt: skip
    result = sandbox.submit(CONFIG, "work=100 % größer", "train.steps=7", **site)
    assert result.returncode == 0, result.stderr
    jobs = {Path(word).stem: words for words in sandbox.called("sbatch") for word in words if word.endswith(".sbatch")}
    return sandbox, jobs, result.stdout.splitlines()


Submitted = tuple[Sandbox, dict[str, list[str]], list[str]]


def test_the_stages_are_chained_and_their_numbers_printed(submitted: Submitted) -> None:
    _, jobs, printed = submitted
    assert tuple(jobs) == STAGES
    assert [word for word in jobs["prepare"] if "dependency" in word] == []
    following = [jobs[stage] for stage in STAGES[1:]]
    assert [option(words, "dependency") for words in following] == ["afterok:101", "afterok:102", "afterok:103"]
    assert all("--kill-on-invalid-dep=yes" in words for words in following)
    assert printed[:4] == ["prepare   101", "train     102", "infer     103", "evaluate  104"]
    assert all(after(words) == [CONFIG, "work=100 % größer", "train.steps=7"] for words in jobs.values())


def test_logs_go_into_the_work_folder_whatever_its_name(submitted: Submitted) -> None:
    sandbox, jobs, printed = submitted
    folder = f"{sandbox.here}/100 %% größer/log/slurm"  # to Slurm %% is a %
    assert [option(words, "output") for words in jobs.values()] == [
        *(f"{folder}/prepare-%A_%a.log", f"{folder}/train-%j.log"),
        *(f"{folder}/infer-%A_%a.log", f"{folder}/evaluate-%j.log"),
    ]
    assert (sandbox.here / "100 % größer" / "log" / "slurm").is_dir()
    assert f"logs      {sandbox.here}/100 % größer/log/slurm" in printed


def test_settings_of_the_site_reach_sbatch(submitted: Submitted) -> None:
    _, jobs, _ = submitted
    assert {option(words, "account") for words in jobs.values()} == {"lab"}
    assert [option(words, "partition") for words in jobs.values()] == ["cpu", "gpu", "gpu", "cpu"]
    assert {option(words, "signal") for words in jobs.values()} == {"B:USR1@300"}
    train = [option(jobs["train"], name) for name in ("nodes", "ntasks-per-node", "gpus-per-node")]
    assert train == ["2", "4", "4"]
    asked = [option(jobs["train"], name) for name in ("cpus-per-task", "mem", "time")]
    assert asked == ["6", "90G", "2:00:00"]
    assert option(jobs["prepare"], "array") == "1-9"
    assert option(jobs["infer"], "gpus-per-node") == "1"


def test_folds_are_an_array_and_the_first_one_predicts_and_a_cpu_takes_one_process_a_node(sandbox: Sandbox) -> None:
    assert sandbox.submit(CONFIG, FOLDS="2,4", TRAIN_GPUS="0").returncode == 0
    train, infer = sandbox.called("sbatch")[1:3]
    assert option(train, "array") == "2,4"
    assert option(train, "output").endswith("train-%A_%a.log")
    assert after(infer) == [CONFIG, "train.fold=2"]
    assert (option(train, "ntasks-per-node"), option(train, "gpus-per-node")) == ("1", "0")
    assert option(infer, "gpus-per-node") == "0"


def test_every_fold_is_trained_and_scored_by_the_cases_that_it_held_out(sandbox: Sandbox) -> None:
    source = f"data.source={ROOT / 'examples' / 'head_neck'}"  # which is read here, to count its folds
    assert sandbox.submit(CONFIG, "data.folds=3", source, FOLDS="every").returncode == 0
    prepare, train, folds = sandbox.called("sbatch")
    assert option(train, "array") == "0-2"
    assert [option(words, "job-name") for words in (prepare, train, folds)] == ["prepare", "train", "folds"]
    assert option(folds, "dependency") == "afterok:102"
    assert after(folds) == [CONFIG, "data.folds=3", source]


def test_the_page_on_clusters_and_the_scripts_name_the_same_settings() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    settings = set(re.findall(r'"\$\{(\w+):=', (SLURM / "site.sh").read_text())) | {"FOLDS"}
    shown = {
        name for line in re.findall(r"^.*submit\.sh.*$", page, re.MULTILINE) for name in re.findall(r"(\w+)=", line)
    }
    assert {"FOLDS", "TRAIN_GPUS"} < shown
    assert shown - {"work"} <= settings
    assert {"NOTICE_S", "MAX_RESTARTS"} <= settings and "`NOTICE_S` (120)" in page and "`MAX_RESTARTS` (100)" in page


def test_a_wrong_key_is_refused_before_anything_is_submitted(sandbox: Sandbox) -> None:
    result = sandbox.submit(CONFIG, "train.step=7")
    assert result.returncode == 2
    assert "did you mean train.steps" in result.stderr
    assert sandbox.called("sbatch") == []


def test_a_work_folder_whose_jobs_are_in_the_queue_is_refused_with_their_numbers(sandbox: Sandbox) -> None:
    work = sandbox.here / "my run"
    shown = [f"7 hounsfield {work}", "8 (null)", f"9 hounsfield {work}2", f"7 hounsfield {work}"]
    sandbox.command("squeue", "\n".join(f"echo '{line}'" for line in shown))
    result = sandbox.submit(CONFIG, "work=my run")
    assert result.returncode == 2
    assert f"{work} has jobs in the queue: 7; wait" in result.stderr
    assert sandbox.called("sbatch") == []


def test_a_chain_that_slurm_refuses_half_way_is_taken_back(sandbox: Sandbox) -> None:
    sandbox.command(
        "sbatch",
        f"number=$({NUMBERED})\n[ $number -lt 103 ] && echo $number || {{ echo no such partition >&2; exit 1; }}",
    )
    result = sandbox.submit(CONFIG)
    assert result.returncode == 1
    assert "no such partition" in result.stderr
    assert sandbox.called("scancel") == [["101", "102"]]


def test_without_a_config_the_usage_is_shown(sandbox: Sandbox) -> None:
    result = sandbox.submit()
    assert result.returncode == 2
    assert "usage: bash scripts/slurm/submit.sh CONFIG" in result.stderr


# Within a job

SHOWN = "echo JobId=71 JobState={state} Reason=None Restarts={restarts}"


def run_job(
    sandbox: Sandbox, stage: str, code: int, *, state: str = "RUNNING", restarts: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a batch file whose stage ends with `code`, while Slurm says that the job is in `state`."""
    sandbox.command("srun", f"exit {code}")
    sandbox.command("scontrol", SHOWN.format(state=state, restarts=restarts))
    return sandbox.run(SLURM / f"{stage}.sbatch", CONFIG, "work=a b", **variables)


def requeued(sandbox: Sandbox) -> list[str]:
    """Return the jobs that were put back into the queue."""
    return [words[1] for words in sandbox.called("scontrol") if words[0] == "requeue"]


@pytest.mark.parametrize(
    ("stage", "variables", "own"),
    [
        ("prepare", TASK, ["prepare.shard=3/8"]),
        ("infer", TASK, ["infer.shard=3/8"]),
        ("train", TASK, ["train.fold=3"]),
        ("train", JOB, []),
        ("evaluate", JOB, []),
        ("folds", JOB, []),
    ],
)
def test_a_job_runs_its_stage_as_a_step_with_its_share(
    stage: str, variables: Mapping[str, str], own: list[str], sandbox: Sandbox
) -> None:
    result = run_job(sandbox, stage, 0, **variables)
    assert result.returncode == 0
    assert f"{stage} is done" in result.stderr
    [words] = sandbox.called("srun")
    assert option(words, "cpus-per-task") == "2"
    position = words.index(sys.executable)
    assert words[position + 1 :] == [str(ROOT / "scripts" / f"{stage}.py"), CONFIG, "work=a b", *own]
    assert requeued(sandbox) == []


def test_an_interrupted_job_goes_back_into_the_queue_an_arrays_task_alone(sandbox: Sandbox) -> None:
    result = run_job(sandbox, "train", 75, restarts=4, SLURM_RESTART_COUNT="4", **TASK)
    assert result.returncode == 75
    assert requeued(sandbox) == ["70_3"]
    assert "back in the queue" in result.stderr


@pytest.mark.parametrize(
    ("state", "restarts"), [("CANCELLED", 0), ("COMPLETING", 0), ("RUNNING", 1)], ids=lambda value: str(value)
)
def test_a_job_that_was_ended_or_runs_elsewhere_again_is_left_alone(
    state: str, restarts: int, sandbox: Sandbox
) -> None:
    result = run_job(sandbox, "train", 75, state=state, restarts=restarts, **JOB)
    assert result.returncode == 75
    assert requeued(sandbox) == []
    assert f"not requeued from here, as the job was cancelled, timed out or started again (JobState={state}" in (
        result.stderr
    )


def test_a_step_that_a_lost_node_ended_is_not_called_done(sandbox: Sandbox) -> None:
    result = run_job(sandbox, "train", 0, restarts=1, **JOB)  # srun ends with 0, the job was started again elsewhere
    assert "train was ended by Slurm (JobState=RUNNING Restarts=1)" in result.stderr
    assert "is done" not in result.stderr


def test_a_job_is_not_requeued_for_ever(sandbox: Sandbox) -> None:
    variables = {"SLURM_RESTART_COUNT": "5", "MAX_RESTARTS": "5", **JOB}
    result = run_job(sandbox, "train", 75, restarts=5, **variables)
    assert result.returncode == 75
    assert requeued(sandbox) == []
    assert "that was done 5 times (MAX_RESTARTS)" in result.stderr


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "prepare: what is named above failed"),
        (2, "prepare: refused for the reason above"),
        (3, "prepare ended with 3"),
        (138, "prepare ended with 138"),  # a signal that the job was not asked by
    ],
)
def test_a_job_that_fails_says_so_and_keeps_the_exit_code(code: int, reason: str, sandbox: Sandbox) -> None:
    result = run_job(sandbox, "prepare", code, **TASK)
    assert result.returncode == code
    assert f" job 70_3] {reason}" in result.stderr and "submit again" in result.stderr
    assert requeued(sandbox) == []


def test_a_request_is_handed_to_the_step_and_its_true_exit_code_counts(sandbox: Sandbox) -> None:
    sandbox.command("srun", "trap 'exit 75' USR1\nkill -TERM $PPID\nfor i in {1..600}; do sleep 0.1; done")
    sandbox.command("scontrol", SHOWN.format(state="RUNNING", restarts=0))
    result = sandbox.run(SLURM / "evaluate.sbatch", CONFIG, **JOB)
    assert result.returncode == 75
    assert "asked to stop (TERM)" in result.stderr
    assert requeued(sandbox) == ["71"]


def test_a_request_that_ends_python_before_it_can_hear_it_is_an_interruption(sandbox: Sandbox) -> None:
    sandbox.command("srun", "kill -USR1 $PPID\nfor i in {1..600}; do sleep 0.1; done")
    sandbox.command("scontrol", SHOWN.format(state="RUNNING", restarts=0))
    result = sandbox.run(SLURM / "prepare.sbatch", CONFIG, **TASK)
    assert result.returncode == 75
    assert requeued(sandbox) == ["70_3"]


def test_a_node_without_the_environment_is_named(sandbox: Sandbox) -> None:
    result = run_job(sandbox, "evaluate", 0, PY="/no/such/python", **JOB)
    assert result.returncode == 2
    assert "/no/such/python: no such program on" in result.stderr and "source " in result.stderr
    assert sandbox.called("srun") == []


def test_by_hand_a_job_finds_the_environment_of_the_project_it_was_submitted_from(sandbox: Sandbox) -> None:
    project = sandbox.here / "pro ject"
    shutil.copytree(SLURM, project / "scripts" / "slurm")
    (project / ".venv" / "bin").mkdir(parents=True)
    python = project / ".venv" / "bin" / "python"
    python.symlink_to(sys.executable)
    sandbox.command("srun")
    result = sandbox.run(SLURM / "evaluate.sbatch", **(JOB | {"SLURM_SUBMIT_DIR": str(project), "PYTHON": ""}))
    assert result.returncode == 0, result.stderr
    assert sandbox.called("srun")[0][-2:] == [str(python), f"{project}/scripts/evaluate.py"]
