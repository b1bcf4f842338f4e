"""A state is whole, or the one before it is taken."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.checkpoint import State, load_state, save_state, state_folders


def save(folder: Path, step: int) -> None:
    save_state(folder, State(step, {"net/weight": torch.full((2, 3), float(step))}, {"best": step / 2}))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 7)
    state = load_state(tmp_path)
    assert state is not None
    assert (state.step, state.facts) == (7, {"best": 3.5})
    assert torch.equal(state.tensors["net/weight"], torch.full((2, 3), 7.0))


def test_without_a_state_there_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "nowhere") is None


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert [path.name for path in state_folders(tmp_path)] == ["step-000000015", "step-000000010"]


def test_a_later_state_that_cannot_be_used_takes_no_place_of_the_last_two(tmp_path: Path) -> None:
    for step in (5, 20, 8, 9):  # 20 is damaged: the run goes on from 5
        save(tmp_path, step)
    assert [path.name[-2:] for path in state_folders(tmp_path)] == ["20", "09", "08"]


def test_tensors_may_share_their_memory_and_have_any_layout(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d)
    save_state(tmp_path, State(1, {"first": weight, "second": weight}, {}))
    state = load_state(tmp_path)
    assert state is not None and all(torch.equal(state.tensors[name], weight) for name in ("first", "second"))


@pytest.mark.parametrize("damage", ["torn", "altered", "no tensors", "no json", "half json", "future"])
def test_a_damaged_state_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    newest = tmp_path / "step-000000010"
    tensors, facts = newest / "tensors.safetensors", newest / "state.json"
    content = tensors.read_bytes()
    match damage:
        case "torn":
            tensors.write_bytes(content[:-5])
        case "altered":
            tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "no tensors":
            tensors.unlink()
        case "no json":
            facts.unlink()
        case "half json":
            facts.write_text(facts.read_text()[:20])
        case "future":
            facts.write_text(facts.read_text().replace('"format_version": 1', '"format_version": 99'))
    with caplog.at_level("WARNING", logger="hounsfield"):
        state = load_state(tmp_path)
    assert state is not None and state.step == 5
    assert "step-000000010" in caplog.text


def test_a_state_under_its_temporary_name_is_not_taken(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    (tmp_path / "step-000000010").rename(tmp_path / ".partial-abc-step-000000010")
    state = load_state(tmp_path)
    assert state is not None and state.step == 5


def test_states_that_are_all_damaged_are_refused(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "step-000000005" / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 saved states.*train\.restart=true"):
        load_state(tmp_path)
