"""Predictions on the CT's own grid with the user's values; models that cannot be used."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from safetensors.torch import load_file, save_file

from pipeline.errors import UserError
from pipeline.files import hash_file, read_json
from pipeline.stages import infer

from .conftest import TEST, Configure


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of a model folder, far from its training data."""
    return Path(shutil.copytree(trained / "train" / "fold0" / "model", tmp_path / "model"))


def test_test_cases_are_predicted_under_the_names_and_on_the_grids_of_their_cts(
    configure: Configure, model: Path, source: Path
) -> None:
    config = configure(f"infer.model={model}")
    assert sorted(infer.run(config).done) == sorted(TEST)
    for name in TEST:
        ct = nibabel.load(source / "images" / f"{name}.nii.gz")
        prediction = nibabel.load(config.work / "predict" / f"{name}.nii.gz")
        assert prediction.shape == ct.shape
        np.testing.assert_array_equal(prediction.affine, ct.affine)
        for field in ("pixdim", "qform_code", "sform_code", "xyzt_units"):
            np.testing.assert_array_equal(prediction.header[field], ct.header[field])
        assert prediction.get_data_dtype() == np.uint8
        assert set(np.unique(prediction.dataobj)) <= {0, 1, 2, 3, 4, 5}
    assert infer.run(config).skipped == tuple(TEST)


def test_a_single_file_with_spaces_and_letters_beyond_ascii_is_predicted(
    configure: Configure, model: Path, source: Path, tmp_path: Path
) -> None:
    given = tmp_path / "Müller, Änne 1.nii.gz"
    shutil.copy(source / "images" / "hn_084.nii.gz", given)
    config = configure(f"infer.model={model}", f'infer.input="{given}"')
    assert infer.run(config).done == ("Müller, Änne 1",)
    assert (config.work / "predict" / given.name).is_file()


@pytest.mark.parametrize(("given", "written"), [("ct.mha", "ct.mha"), ("ct.nhdr", "ct.nrrd")])
def test_a_ct_of_another_format_gets_the_same_labels_in_its_own(
    configure: Configure, model: Path, source: Path, tmp_path: Path, given: str, written: str
) -> None:
    folder = tmp_path / "cts"
    folder.mkdir()
    shutil.copy(source / "images" / "hn_084.nii.gz", folder)
    ct = sitk.ReadImage(str(folder / "hn_084.nii.gz"))
    sitk.WriteImage(ct, str(folder / given))
    config = configure(f"infer.model={model}", f"infer.input={folder}")
    assert infer.run(config).done == ("ct", "hn_084")
    expected, found = (sitk.ReadImage(str(config.work / "predict" / name)) for name in ("hn_084.nii.gz", written))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(found.GetOrigin(), ct.GetOrigin(), rtol=1e-15)


def test_one_bad_ct_is_named_and_the_others_are_predicted(
    configure: Configure, model: Path, source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cts"
    folder.mkdir()
    shutil.copy(source / "images" / "hn_084.nii.gz", folder)
    (folder / "text.nii.gz").write_text("not an image")
    outcome = infer.run(configure(f"infer.model={model}", f"infer.input={folder}"))
    assert outcome.done == ("hn_084",)
    assert "text.nii.gz" in outcome.failed["text"]
    assert outcome.exit_code == 1
    without = infer.run(configure(f"infer.model={model}", f"infer.input={folder}", "data.exclude=[text]"))
    assert (without.skipped, without.exit_code) == (("hn_084",), 0)


def test_merged_and_renumbered_classes_are_written_with_the_first_of_their_values(
    configure: Configure, model: Path, source: Path
) -> None:
    description = read_json(model / "model.json")
    values = description["facts"]["labels"]["values"]
    description["facts"]["labels"]["values"] = {name: [100 * v[0], v[0]] for name, v in values.items()}
    (model / "model.json").write_text(json.dumps(description))
    config = configure(f"infer.model={model}")
    infer.run(config)
    written = np.asarray(nibabel.load(config.work / "predict" / "hn_084.nii.gz").dataobj)
    assert written.dtype == np.int16
    assert set(np.unique(written)) <= {0, 100, 200, 300, 400, 500}


@pytest.mark.parametrize("shard", ["1/2", "2/2"])
def test_a_shard_predicts_its_part(configure: Configure, model: Path, shard: str) -> None:
    outcome = infer.run(configure(f"infer.model={model}", f"infer.shard={shard}"))
    assert outcome.done == (TEST[int(shard[0]) - 1],)


def test_another_model_predicts_again(configure: Configure, model: Path, tmp_path: Path) -> None:
    config = configure(f"infer.model={model}", "infer.shard=1/2")
    infer.run(config)
    weights = load_file(model / "weights.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, model / "weights.safetensors")
    description = read_json(model / "model.json")
    description["weights_sha256"] = hash_file(model / "weights.safetensors")
    (model / "model.json").write_text(json.dumps(description))
    assert infer.run(config).done == (TEST[0],)


def spoil(model: Path, how: str) -> None:
    facts = model / "model.json"
    description = read_json(facts)
    match how:
        case "no weights":
            (model / "weights.safetensors").unlink()
        case "no facts":
            facts.unlink()
        case "torn weights":
            (model / "weights.safetensors").write_bytes(b"half")
        case "future format":
            facts.write_text(json.dumps(description | {"format": 99}))
        case "another head":
            description["facts"]["head"]["kind"] = "sigmoid"
            facts.write_text(json.dumps(description))
        case "a class of its own":
            description["facts"]["net"]["name"] = "os:system"
            facts.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no weights", r"weights\.safetensors: not found"),
        ("no facts", r"model\.json: not found"),
        ("torn weights", r"torn"),
        ("future format", r"format version 99.*reads 1"),
        ("another head", r"head.*expected"),
        ("a class of its own", r"os:system.*net\.name="),
    ],
)
def test_a_model_folder_that_cannot_be_used_says_why(configure: Configure, model: Path, how: str, words: str) -> None:
    spoil(model, how)
    with pytest.raises(UserError, match=words):
        infer.run(configure(f"infer.model={model}"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("infer.input=/nowhere/at/all", "neither a file nor a folder"),
        ("infer.model=/nowhere/at/all", "no such model folder"),
        ("infer.device=cpu:zero", "expected auto, cpu, cuda"),
        ("infer.keep_largest=[Jaw]", r"infer\.keep_largest: Jaw is no class"),
    ],
)
def test_what_is_not_there_gets_its_sentence(configure: Configure, model: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        infer.run(configure(f"infer.model={model}", override))


def test_predictions_do_not_overwrite_the_cts_they_are_made_of(configure: Configure, model: Path, source: Path) -> None:
    config = configure(f"infer.model={model}")
    shutil.copytree(source / "images", config.work / "predict")
    (link := config.work / "link").symlink_to(config.work / "predict")
    for folder in (config.work / "predict", link):
        with pytest.raises(UserError, match="where predictions are written"):
            infer.run(configure(f"infer.model={model}", f"infer.input={folder}"))


def test_mirror_images_of_a_model_that_knows_no_swap_are_refused(configure: Configure, model: Path) -> None:
    description = read_json(model / "model.json")
    description["facts"]["labels"]["swap"] = []
    (model / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"infer\.mirror: x exchanges left and right.*RightParotid"):
        infer.run(configure(f"infer.model={model}", "infer.mirror=[x]"))
    assert infer.run(configure(f"infer.model={model}", "infer.mirror=[y]", "infer.shard=1/2")).done == (TEST[0],)
