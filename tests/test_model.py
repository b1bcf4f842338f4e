import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.files import hash_file
from pipeline.head import Head
from pipeline.labels import Labels, Region
from pipeline.model import Model, ModelFacts, hash_of, read_description, read_facts
from pipeline.nets.registry import build
from pipeline.volume.intensity import Intensity

LABELS = Labels(
    {"left": (3, 7), "right": (5,), "lesion": (-1,)},
    regions=(Region("both", ("left", "right"), "left"), Region("lesion", ("lesion",), "lesion")),
    ignore=255,
    swap=(("left", "right"),),
    background=(0, 9),
)
FOREIGN = """
from torch import nn

class Tiny(nn.Conv3d):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 1)
"""


def facts_of(net: NetSection, kind: str = "softmax") -> ModelFacts:
    return ModelFacts(
        head=Head(kind, LABELS, 0.4),
        labels=LABELS,
        spacing_mm=(1.5, 1.5, 3.0),
        intensity=Intensity((-200.0, 400.0), 0.8, 0.3, 0.25),
        patch_vox=(16, 16, 8),
        net=net,
        provenance={"steps": 7, "fingerprint": "abc"},
    )


@pytest.fixture
def model():
    net = NetSection(options={"channels": [4, 8], "strides": [1, [2, 2, 1]]})
    torch.manual_seed(0)
    return Model(facts_of(net), build(net, 1, 4).to(memory_format=torch.channels_last_3d))


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "a model")
    return tmp_path / "a model"


def change(folder, **facts):
    description = json.loads((folder / "model.json").read_text())
    description["facts"] |= facts
    (folder / "model.json").write_text(json.dumps(description))


def test_a_loaded_model_has_the_same_facts_and_gives_the_same_logits(model, folder):
    loaded = Model.load(folder)
    assert loaded.facts == model.facts
    assert not loaded.net.training
    image = torch.randn(1, 1, 16, 16, 8)
    assert torch.equal(loaded.net(image), model.net.to(memory_format=torch.contiguous_format).eval()(image))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "regions"])
def test_facts_come_back_from_json_as_they_were(kind):
    facts = facts_of(NetSection(name="monai.UNet", options={"channels": [4, 8]}, head_weights=(1.0, 0.5)), kind)
    assert ModelFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_facts_are_read_without_the_weights(model, folder):
    (folder / "weights.safetensors").unlink()
    assert read_facts(folder) == model.facts


def test_running_statistics_are_saved(tmp_path):
    net = NetSection(name="monai.UNet", options={"channels": [4, 8], "norm": "batch"})
    module = build(net, 1, 4)
    module(torch.randn(2, 1, 8, 8, 8))
    Model(facts_of(net), module).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model").net.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in module.state_dict().items())
    assert any("num_batches_tracked" in name for name in loaded)


def test_saving_over_a_model_replaces_it_as_a_whole(model, folder):
    before = hash_of(folder)
    (folder / "left over.txt").write_text("x")
    with torch.no_grad():
        model.net.head.bias.add_(1)
    model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    assert hash_of(folder) != before
    assert torch.equal(Model.load(folder).net.head.bias, model.net.head.bias)


def test_a_save_that_fails_leaves_the_model_that_was_there(model, folder):
    before = hash_of(folder)
    broken = Model(facts_of(model.facts.net), model.net)
    broken.facts.provenance["score"] = float("nan")  # which JSON cannot say
    with pytest.raises(ValueError, match="JSON"):
        broken.save(folder)
    assert hash_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_weights_are_plain_safetensors_under_the_names_of_the_state_dict(model, folder):
    assert load_file(folder / "weights.safetensors").keys() == model.net.state_dict().keys()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        Model.load(tmp_path / "none")


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: not found"):
        Model.load(folder)


@pytest.mark.parametrize("place", ["", "fold0", "train/fold0"])
def test_the_model_of_a_work_folder_or_a_run_is_proposed_where_that_was_named(folder, tmp_path, place):
    model = tmp_path / "work" / place / "model"
    model.parent.mkdir(parents=True)
    folder.rename(model)
    with pytest.raises(UserError, match=rf"^infer.model: .*/work is no model folder, .* did you mean {model}\?"):
        Model.load(tmp_path / "work")
    with pytest.raises(UserError, match=r"^train.start_from: .* did you mean"):
        read_description(tmp_path / "work", "train.start_from")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_format_version_is_refused(folder, version):
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"format": version}))
    with pytest.raises(UserError, match=r"model.json: format version .*; this version of the pipeline reads 1"):
        Model.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"format": 1}', '{"format": 1, "facts": {"head": 3}}'])
def test_a_damaged_description_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json"):
        Model.load(folder)


@pytest.mark.parametrize(
    "facts",
    [
        {"spacing_mm": [1.5]},
        {"patch_vox": None},
        {"labels": {"values": {}}},
        {"net": {"name": "UNet3d", "strange": 1}},
        {"intensity": {}},
        {"head": {"kind": "other", "threshold": 0.5}},
        {"spacing_mm": [1.5, 0, 3]},
        {"spacing_mm": [1.5, 1e999, 3]},
        {"patch_vox": [16, 16, 0]},
        {"patch_vox": [16, 16, 1e999]},
        {"channels_in": 0},
        {"intensity": {"window_hu": [-200, 400], "gamma": 1, "mean": 0, "std": 0}},
        {"intensity": {"window_hu": [400, -200], "gamma": 1, "mean": 0, "std": 1}},
        {"intensity": {"window_hu": [-200, 400], "gamma": 1, "mean": 1e999, "std": 1}},
    ],
)
def test_facts_that_make_no_sense_are_refused(folder, facts):
    change(folder, **facts)
    with pytest.raises(UserError, match=r"model.json: the facts are incomplete or altered"):
        read_facts(folder)


def test_torn_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"weights\.safetensors: not the weights .* torn"):
        Model.load(folder)


def test_one_altered_bit_is_refused(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256 differs"):
        Model.load(folder)


def test_weights_of_another_head_are_refused(folder):
    change(folder, head={"kind": "sigmoid", "threshold": 0.5})
    with pytest.raises(UserError, match=r"head.weight is \(4, 4, 1, 1, 1\), expected \(3, 4, 1, 1, 1\)"):
        Model.load(folder)


def test_weights_under_other_names_are_refused(folder):
    path = folder / "weights.safetensors"
    weights = load_file(path)
    weights["neck.bias"] = weights.pop("head.bias")
    save_file(weights, path)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"weights_sha256": hash_file(path)}))
    with pytest.raises(UserError, match=r"head\.bias is missing; neck\.bias is unknown to the network"):
        Model.load(folder)


def test_a_foreign_class_is_imported_only_if_the_config_names_it(tmp_path, monkeypatch):
    (tmp_path / "model_test_nets.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = NetSection(name="model_test_nets:Tiny")
    Model(facts_of(net), build(net, 1, 4)).save(tmp_path / "model")
    for allow in (None, "UNet3d", "model_test_nets:Other"):
        with pytest.raises(UserError, match=r"set net\.name=model_test_nets:Tiny"):
            Model.load(tmp_path / "model", allow=allow)
    assert isinstance(Model.load(tmp_path / "model", allow="model_test_nets:Tiny").net, nn.Conv3d)


def test_the_order_of_operations_is_in_the_folder(folder):
    written = json.loads((folder / "model.json").read_text())
    assert written["order_of_operations"] == ["windows", "blend logits", "restore by linear interpolation", "decide"]
