"""From words to a config, and the sentence for each way to get them wrong."""

import os
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.config.load import dump, load
from pipeline.errors import UserError

EXAMPLE = Path(__file__).parents[2] / "configs" / "head_neck.yaml"


def refusal(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        load(list(argv))
    return str(caught.value)


def written(folder: Path, text: str | bytes) -> str:
    file = folder / "my config.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


def test_nothing_given_is_all_defaults() -> None:
    assert load([]) == Config()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "train:\n  # lr: 1\n", "\ufeffseed: 0\n"])
def test_a_config_that_says_nothing_is_all_defaults(tmp_path: Path, text: str) -> None:
    assert load([written(tmp_path, text)]) == Config()


def test_overrides_win_over_the_file_and_later_ones_over_earlier_ones(tmp_path: Path) -> None:
    config = load([written(tmp_path, "train: {steps: 500, lr: 1}"), "train.steps=60", "train.steps=2000"])
    assert (config.train.steps, config.train.lr) == (2000, 1.0)


def test_values_of_overrides_are_yaml() -> None:
    config = load(
        ["train.lr=5e-3", "prepare.spacing_mm=[4, 4, 4]", "data.exclude=[no, b c]", "infer.input=", "work=a=b"]
    )
    assert config.train.lr == 0.005
    assert config.prepare.spacing_mm == (4.0, 4.0, 4.0)
    assert config.data.exclude == ("no", "b c")
    assert config.infer.input is None
    assert config.work == Path("a=b")


def test_an_override_reaches_below_a_mapping() -> None:
    config = load(["net.options={channels: [8, 16]}", "net.options.norm=group", "labels.Lung=1", "labels.ignore=255"])
    assert config.net.options == {"channels": [8, 16], "norm": "group"}
    assert config.labels is not None and config.labels.build().ignore == 255


def test_relative_paths_stay_relative_and_a_tilde_is_the_home_folder() -> None:
    config = load(["work=runs/a", "data.source=~/ct"])
    assert config.work == Path("runs/a")
    assert config.data.source == Path(os.path.expanduser("~")) / "ct"


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORK", "SEED", "work", "train__steps", "TRAIN_STEPS"):
        monkeypatch.setenv(name, "7")
    assert load([]) == Config()


def test_the_example_config_is_legal_and_short() -> None:
    config = load([str(EXAMPLE)])
    assert config.labels is not None
    assert config.labels.build().names == ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible")
    assert len(EXAMPLE.read_text().splitlines()) <= 20


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [str(EXAMPLE)],
        ["labels.A=1", "labels.B=[2, 3]", "labels.regions.AB={classes: [A, B], write: A}", "head.kind=regions"],
        ["augment.preset=none", "augment.noise_probability=0.5", "work=1e3", "data.exclude=['no', '010', '2', ö x]"],
        ["train.minutes=2.5", "train.fold=all", "train.deterministic=true", "net.options={a: .inf, b: {c: null}}"],
    ],
)
def test_the_printed_config_loads_to_an_equal_one(tmp_path: Path, argv: list[str]) -> None:
    argv = ["work='1e3'" if word == "work=1e3" else word for word in argv]
    config = load(argv)
    assert load([written(tmp_path, dump(config))]) == config


def test_a_preset_is_where_other_keys_start_from() -> None:
    assert load(["augment.preset=light"]).augment.rotation_deg == 15
    assert load(["augment.preset=light", "augment.rotation_deg=20", "augment.scale=[1, 2]"]).augment.rotation_deg == 20


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("train.stepz=1", "train.stepz: unknown key; did you mean train.steps?"),
        ("data.spacing_mm=1", "data.spacing_mm: unknown key; did you mean prepare.spacing_mm?"),
        ("optimiser=adamw", "optimiser: unknown key; did you mean train.optimiser?"),
        ("trian.steps=1", "trian: unknown key; did you mean train?"),
        ("zzz=1", "zzz: unknown key; see --help."),
        ("train.steps=many", 'train.steps: found "many", expected a whole number of at least 1.'),
        ("train.steps='2000'", 'train.steps: found "2000", expected a whole number of at least 1.'),
        ("train.steps=true", "train.steps: found true, expected a whole number of at least 1."),
        ("train.steps=2.5", "train.steps: found 2.5, expected a whole number of at least 1."),
        ("train.steps=", "train.steps: found nothing, expected a whole number of at least 1."),
        ("train.lr=0", "train.lr: found 0, expected a number above 0."),
        ("train.lr=.inf", "train.lr: found Infinity, expected a number above 0."),
        ("train.resume=no", 'train.resume: found "no", expected true or false.'),
        ("train.fold=x", 'train.fold: found "x", expected a whole number of at least 0 or all.'),
        ("train.amp=half", 'train.amp: found "half", expected auto, off, bf16 or fp16.'),
        ("infer.overlap=1", "infer.overlap: found 1, expected a number of at least 0 and below 1."),
        ("infer.device=gpu", 'infer.device: found "gpu", expected auto, cpu, cuda or cuda:N.'),
        ("sample.positive=2", "sample.positive: found 2, expected a number from 0 to 1."),
        ("sample.patch_vox=96", "sample.patch_vox: found 96, expected a list of 3, each a whole number of at least 1."),
        (
            "prepare.spacing_mm=[4, 0, 4]",
            "prepare.spacing_mm: found [4, 0, 4], expected a list of 3, each a number above 0 and at most 50.",
        ),
        ("prepare.shard=9/8", 'prepare.shard: found "9/8", expected i/n with 1 <= i <= n, such as 3/8.'),
        ("augment.scale=[2, 1]", "augment.scale: found [2, 1], expected the lower bound first, such as [0.8, 1.2]."),
        ("intensity.window_hu=[5, 5]", "intensity.window_hu: found [5, 5], expected the lower bound first"),
        ("train=5", "train: found 5, expected a group of keys such as steps, minutes."),
        ("labels.Lung=x", 'labels.Lung: found "x", expected the whole number, or the list of whole numbers'),
        ("labels.Lung=[1, true]", "labels.Lung: found [1, true], expected the whole number, or the list"),
        ("labels.swap=[[A]]", 'labels.swap: found [["A"]], expected a list, each a list of 2, each text.'),
        ('work="a\\0b"', 'work: found "a\\u0000b", expected a path without a zero byte.'),
        ("work=[a]", 'work: found ["a"], expected a path.'),
        ("steps", "steps: there is no such config file"),
        ("=5", "'=5': the key '' has an empty part"),
        ("train..lr=5", "'train..lr=5': the key 'train..lr' has an empty part"),
        ("train.lr=[1", "'train.lr=[1': line 1:"),
    ],
)
def test_one_wrong_word_gets_its_sentence(word: str, sentence: str) -> None:
    found = refusal(word)
    assert found.startswith(sentence)
    assert "\n" not in found


def test_every_wrong_key_has_a_line_and_says_where_it_was_given(tmp_path: Path) -> None:
    file = written(tmp_path, "train: {stepz: 1}\nseed: x\nsample: {batch: 0}\n")
    assert set(refusal(file, "seed=-1").splitlines()) == {
        f"{file}: train.stepz: unknown key; did you mean train.steps?",
        "seed: found -1, expected a whole number of at least 0 and below 4294967296.",
        f"{file}: sample.batch: found 0, expected a whole number of at least 1.",
    }


def test_a_word_after_the_file_needs_an_equals_sign(tmp_path: Path) -> None:
    assert "expected key=value" in refusal(written(tmp_path, ""), "train.steps")


def test_a_key_below_a_value_is_refused() -> None:
    assert refusal("work=a", "work.b=1") == 'work.b: work holds "a" and has no keys of its own.'


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "head_neck.yaml").touch()
    sentence = refusal(str(tmp_path / "head_nek.yaml"))
    assert sentence.endswith(f"there is no such config file; did you mean {tmp_path / 'head_neck.yaml'}?")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)).startswith(f"{tmp_path}: cannot be read")
    (tmp_path / "file").touch()
    assert refusal(str(tmp_path / "file" / "a.yaml")).startswith(f"{tmp_path / 'file' / 'a.yaml'}: cannot be read")
    assert refusal("a" * 300).startswith(f"{'a' * 300}: cannot be read (File name too long)")


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "work: läng".encode("latin-1"))
    assert refusal(file) == f"{file}: byte 7 is not UTF-8; save the file as UTF-8 text."


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    assert "expected keys such as `work: runs/mine`" in refusal(written(tmp_path, text))


def test_a_very_long_value_is_shown_in_part() -> None:
    assert len(refusal("train.steps=" + "x" * 5000)) < 300
