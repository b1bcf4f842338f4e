"""A run belongs to one config."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from pipeline.errors import UserError
from pipeline.files import read_json, temporary_sibling, write_json
from pipeline.model import Model, ModelFacts
from pipeline.training.identity import claim, validation_of

KEYS = {"train.lr": 0.1, "sample.batch": 2}


def test_the_same_keys_join_the_run_and_learn_when_it_is_done(
    tmp_path: Path, facts: ModelFacts, net: nn.Module
) -> None:
    folder = tmp_path / "fold0"
    assert not claim(folder, KEYS, resume=True, restart=False)
    assert not claim(folder, KEYS, resume=True, restart=False)
    write_json(folder / "done.json", {})
    assert not claim(folder, KEYS, resume=True, restart=False)  # its model is gone, and is to be made again
    Model(facts, net).save(folder / "model")
    assert claim(folder, KEYS, resume=True, restart=False)
    with (folder / "model" / "weights.safetensors").open("r+b") as file:
        file.truncate(100)
    assert not claim(folder, KEYS, resume=True, restart=False)  # nor is a torn one any use


@pytest.mark.parametrize("what", ["state/step-000000002", "model"])
def test_other_keys_are_refused_with_what_differs_and_two_ways_out(tmp_path: Path, what: str) -> None:
    claim(tmp_path / "fold0", KEYS, resume=True, restart=False)
    (tmp_path / "fold0" / what).mkdir(parents=True)
    with pytest.raises(UserError, match=r"train\.lr: 0\.1 then, 0\.2 now.*work=.*train\.restart=true") as error:
        claim(tmp_path / "fold0", KEYS | {"train.lr": 0.2}, resume=True, restart=False)
    assert "sample.batch" not in str(error.value)


def test_what_differs_is_written_as_in_a_config(tmp_path: Path) -> None:
    claim(tmp_path / "fold0", KEYS | {"loss.gamma": None}, resume=True, restart=False)
    (tmp_path / "fold0" / "model").mkdir()
    with pytest.raises(UserError, match=r"loss\.gamma: null then, \{a: \[1\]\} now"):
        claim(tmp_path / "fold0", KEYS | {"loss.gamma": {"a": (1,)}}, resume=True, restart=False)


@pytest.mark.parametrize("left", [None, "{}", "[]"])
def test_states_without_their_config_are_not_joined(tmp_path: Path, left: str | None) -> None:
    folder = tmp_path / "fold0"
    (folder / "state/step-000000002").mkdir(parents=True)
    if left is not None:
        (folder / "run.json").write_text(left)
    with pytest.raises(UserError, match=r"run\.json: .*train\.restart=true"):
        claim(folder, KEYS, resume=True, restart=False)
    assert not claim(folder, KEYS, resume=True, restart=True)


def test_of_cases_only_those_that_differ_are_named(tmp_path: Path) -> None:
    cases = {f"hn_{number:03}": f"{number:064}" for number in range(12)}
    now = {name: digest for name, digest in cases.items() if name != "hn_007"} | {"hn_099": "f", "hn_003": "e"}
    claim(tmp_path / "fold0", {"training cases": cases}, resume=True, restart=False)
    (tmp_path / "fold0" / "model").mkdir()
    with pytest.raises(UserError, match=r"\(training cases: no more: hn_007, new: hn_099, changed: hn_003\)"):
        claim(tmp_path / "fold0", {"training cases": now}, resume=True, restart=False)


def test_how_a_run_is_validated_stays_what_it_began_with(tmp_path: Path) -> None:
    folder = tmp_path / "fold0"
    claim(folder, KEYS, resume=True, restart=False, validation={"overlap": 0.5})
    (folder / "state/step-000000002").mkdir(parents=True)
    claim(folder, KEYS, resume=True, restart=False, validation={"overlap": 0.25})
    assert validation_of(folder) == {"overlap": 0.5}


def test_a_run_that_left_nothing_gives_way_to_another_config(tmp_path: Path) -> None:
    claim(tmp_path / "fold0", KEYS, resume=True, restart=False)
    (tmp_path / "fold0" / "log.txt").write_text("died at once")
    changed = KEYS | {"train.lr": 0.2}
    assert not claim(tmp_path / "fold0", changed, resume=True, restart=False)
    assert read_json(tmp_path / "fold0" / "run.json")["keys"] == changed


def test_restart_moves_the_old_run_aside(tmp_path: Path) -> None:
    claim(tmp_path / "fold0", KEYS, resume=True, restart=False)
    (tmp_path / "fold0" / "mine.txt").write_text("kept")
    assert not claim(tmp_path / "fold0", KEYS | {"train.lr": 0.2}, resume=True, restart=True)
    assert [path.read_text() for path in tmp_path.glob("fold0-before-*/mine.txt")] == ["kept"]


def test_restart_goes_on_where_the_same_job_was_put_back_into_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fold0"
    claim(folder, KEYS, resume=True, restart=False)

    def attempt(job: str, restarts: str | None) -> int:
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
        if restarts is not None:
            monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        assert not claim(folder, KEYS, resume=True, restart=True)
        (folder / "state/step-000000002").mkdir(parents=True, exist_ok=True)
        moved = len(list(tmp_path.glob("fold0-before-*")))
        for number, path in enumerate(sorted(tmp_path.glob("fold0-before-*"))):
            path.rename(tmp_path / f"fold0-before-{number}")  # names of the same second
        return moved

    assert attempt("17", None) == 1
    assert attempt("17", "1") == 1
    assert attempt("17", "2") == 1
    assert attempt("18", None) == 2
    assert attempt("18", None) == 3  # by hand in an allocation, twice


def test_an_unfinished_run_is_not_joined_where_resume_is_off(tmp_path: Path) -> None:
    claim(tmp_path / "fold0", KEYS, resume=True, restart=False)
    (tmp_path / "fold0" / "model").mkdir()
    with pytest.raises(UserError, match=r"train\.resume is false"):
        claim(tmp_path / "fold0", KEYS, resume=False, restart=False)


def test_what_a_killed_process_left_half_written_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "fold0"
    claim(folder, KEYS, resume=True, restart=False)
    code = "from pathlib import Path; from pipeline.files import temporary_sibling as t; print(t(Path('step-1')))"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "state" / name).mkdir(parents=True)
    mine = temporary_sibling(folder / "model")
    mine.mkdir()
    claim(folder, KEYS, resume=True, restart=False)
    assert not (folder / "state" / name).exists()
    assert mine.exists()  # this process is alive, and may still be at it
