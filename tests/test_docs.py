"""What README and docs tell people to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.config.load import load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STAGE = re.compile(r"python scripts/(\w+)\.py\s+([^`\n]*)")
SCRIPT = re.compile(r"(?:python|bash) ((?:bench|docs|scripts)/[\w./]+)")


def stage_commands() -> list[tuple[str, str, str]]:
    found = []
    for page in PAGES:
        for stage, words in STAGE.findall(page.read_text(encoding="utf-8")):
            found.append((page.name, stage, words.split("#")[0].strip()))
    return found


def test_the_pages_do_have_commands() -> None:
    assert {stage for page, stage, _ in stage_commands() if page == "README.md"} == {
        "plan",
        "prepare",
        "train",
        "infer",
        "evaluate",
        "doctor",
        "status",
    }


@pytest.mark.parametrize(("page", "stage", "words"), stage_commands())
def test_every_stage_command_has_a_config_and_keys_that_exist(
    page: str, stage: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = [
        word.replace("my.yaml", "configs/head_neck.yaml").replace("its_name", "hn_001") for word in shlex.split(words)
    ]
    topics = cli.TOPICS.get(stage, {})
    assert not topics or arguments[0] in topics
    folders = [stage, *arguments[: bool(topics)]] in cli.OF_FOLDERS  # which are no config
    settings = [word for word in arguments[bool(topics) :] if word.endswith(".yaml") or not folders]
    load([word for word in settings if word not in cli.FLAGS.get(stage, {})])
    assert (ROOT / "scripts" / f"{stage}.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_that_is_named_is_there(page: Path) -> None:
    for name in SCRIPT.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


def test_the_ceiling_of_the_training_grid_is_measured() -> None:
    words = [sys.executable, str(ROOT / "bench" / "ceiling.py"), str(ROOT / "examples" / "head_neck"), "8"]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    last = result.stdout.split()[-1]
    assert 0.5 < float(last) < 0.9  # at 8 mm small organs lose a good part
