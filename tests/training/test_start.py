"""What a new run takes from a model: all that fits, output channels by the name of their class."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.model import Model, ModelFacts
from pipeline.nets.registry import build
from pipeline.training.start import start_from, weights_hash
from pipeline.volume.intensity import Intensity

UNET = NetSection(options={"channels": [4, 8]})


def make(
    *classes: str, net: NetSection = UNET, kind: str = "softmax", seed: int = 0, channels_in: int = 1
) -> tuple[nn.Module, ModelFacts]:
    """Return a network with the weights of a seed, and the facts of its run."""
    head = Head(kind, Labels({name: (value,) for value, name in enumerate(classes, 1)}))
    facts = ModelFacts(
        head=head, labels=head.labels, spacing_mm=(2.0, 2.0, 2.0), intensity=Intensity((0, 1000)),
        patch_vox=(64, 64, 64), net=net, channels_in=channels_in,
    )  # fmt: skip
    torch.manual_seed(seed)
    return build(net, channels_in, head.channels), facts


@pytest.fixture
def save(tmp_path: Path) -> Callable[[nn.Module, ModelFacts], Path]:
    def written(net: nn.Module, facts: ModelFacts) -> Path:
        Model(facts, net).save(tmp_path / "model")
        return tmp_path / "model"

    return written


def copies(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_with_the_same_classes_every_tensor_is_taken_into_the_same_parameters(save: Callable) -> None:
    old, old_facts = make("liver", "lung", seed=1)
    net, facts = make("liver", "lung")
    parameters = list(net.parameters())
    start = start_from(net, facts, save(old, old_facts))
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in net.state_dict().items())
    assert all(one is other for one, other in zip(net.parameters(), parameters, strict=True))
    assert (start.partly, start.fresh, start.unused, start.share) == ((), (), (), 1.0)


@pytest.mark.parametrize("name", ["UNet3d", "TransFuse3d", "monai.DynUNet"])
def test_channels_of_a_class_go_to_where_its_name_is_and_new_ones_stay_fresh(name: str, save: Callable) -> None:
    options = {"UNet3d": {"channels": [4, 8]}, "monai.DynUNet": {"filters": [4, 4, 8, 8, 8], "deep_supervision": True}}
    net_section = NetSection(name=name, options=options.get(name, {}))
    old, old_facts = make("liver", "lung", "bone", net=net_section, seed=1)  # channels: background, liver, lung, bone
    net, facts = make("bone", "spleen", "liver", net=net_section)  # background, bone, spleen, liver
    fresh, theirs = copies(net), old.state_dict()
    start = start_from(net, facts, save(old, old_facts))
    assert start.channels == ("background", "bone", "liver")
    assert start.fresh == () and start.unused == () and start.partly
    for name, tensor in net.state_dict().items():
        if name in start.taken:
            assert torch.equal(tensor, theirs[name])
        else:
            assert torch.equal(tensor[[0, 1, 3]], theirs[name][[0, 3, 1]])
            assert torch.equal(tensor[2], fresh[name][2])


@pytest.mark.parametrize("residual_units", [0, 2])
def test_with_other_classes_the_networks_agree_on_those_that_both_have(residual_units: int, save: Callable) -> None:
    # MONAI's UNet ends in a transposed convolution, whose second axis runs over the channels, and with residual units
    # in convolutions between channels, where both axes do.
    section = NetSection(name="monai.UNet", options={"channels": [4, 8], "num_res_units": residual_units})
    old, old_facts = make("liver", "lung", net=section, seed=1)
    net, facts = make("lung", "liver", net=section)
    start = start_from(net, facts, save(old, old_facts))
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(image), old.eval()(image)[:, [0, 2, 1]])
    assert start.partly == ()


def test_a_head_without_background_takes_the_channels_of_its_classes(save: Callable) -> None:
    old, old_facts = make("liver", "lung", seed=1)
    net, facts = make("lung", "liver", kind="sigmoid")
    start_from(net, facts, save(old, old_facts))
    assert torch.equal(net.head.weight, old.head.weight[[2, 1]])


def test_a_deeper_network_takes_the_levels_that_fit(save: Callable, caplog: pytest.LogCaptureFixture) -> None:
    old, old_facts = make("liver", seed=1)
    net, facts = make("liver", net=NetSection(options={"channels": [4, 8, 16]}))
    fresh = copies(net)
    with caplog.at_level(logging.DEBUG, logger="hounsfield"):
        start = start_from(net, facts, save(old, old_facts))
    assert "encoder.0.0.0.weight" in start.taken
    assert "encoder.2.0.0.weight" in start.fresh
    assert torch.equal(net.encoder[2][0][0].weight, fresh["encoder.2.0.0.weight"])
    assert "less than half of the network comes from the model" in caplog.text
    assert f"fresh: {', '.join(start.fresh)}" in caplog.text


def test_running_statistics_come_along(save: Callable) -> None:
    section = NetSection(options={"channels": [4, 8], "norm": "batch"})
    old, old_facts = make("liver", net=section, seed=1)
    old.train()(torch.randn(2, 1, 8, 8, 8))
    net, facts = make("liver", "lung", net=section)
    start_from(net, facts, save(old, old_facts))
    for name, tensor in old.state_dict().items():
        if "running" in name or "tracked" in name:
            assert torch.equal(net.state_dict()[name], tensor)


def test_random_numbers_after_a_start_are_those_without_one(save: Callable) -> None:
    folder = save(*make("liver", seed=1))
    net, facts = make("lung")
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    start_from(net, facts, folder)
    assert torch.equal(torch.rand(3), expected)


def test_the_log_says_in_short_what_was_taken(save: Callable, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(*make("liver", "lung", seed=1))
    net, facts = make("lung", "bone")
    with caplog.at_level(logging.INFO, logger="hounsfield"):
        start_from(net, facts, folder)
    total = len(net.state_dict())
    assert f"train.start_from: {total} of {total} tensors, 100.0 % of all numbers, from {folder}" in caplog.text
    assert "output channels taken: background, lung; new: bone" in caplog.text
    assert "partly: head 2" in caplog.text


def test_the_hash_is_that_of_the_weights(save: Callable) -> None:
    folder = save(*make("liver", seed=1))
    one = weights_hash(folder)
    assert weights_hash(save(*make("lung", seed=1))) == one  # other classes, the same weights
    assert weights_hash(save(*make("lung", seed=2))) != one


def test_models_that_do_not_fit_are_refused_with_the_key(save: Callable) -> None:
    net, facts = make("liver")
    before = copies(net)
    refused = {
        r"train\.start_from: the network in .* is monai\.BasicUNet, and net\.name is UNet3d": make(
            "liver", net=NetSection(name="monai.BasicUNet")
        ),
        r"train\.start_from: the network in .* takes 2 input channels, this run gives 1": make("liver", channels_in=2),
        r"no weight in .* has the name and shape .* set net\.options to the model's: \{channels: \[6, 12\]\}": make(
            "liver", net=NetSection(options={"channels": [6, 12]})
        ),
    }
    for sentence, (other, other_facts) in refused.items():
        with pytest.raises(UserError, match=sentence):
            start_from(net, facts, save(other, other_facts))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_folder_that_is_missing_torn_or_altered_is_refused(save: Callable, tmp_path: Path) -> None:
    net, facts = make("liver")
    for call in (lambda: start_from(net, facts, tmp_path / "none"), lambda: weights_hash(tmp_path / "none")):
        with pytest.raises(UserError, match=r"train\.start_from: .*none is no folder; give a model folder"):
            call()
    folder = save(*make("liver", seed=1))
    with pytest.raises(UserError, match=rf"^train\.start_from: .* is no model folder, .* did you mean {folder}\?"):
        start_from(net, facts, tmp_path)
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(UserError, match="torn, altered or another model's"):
        start_from(net, facts, folder)
    weights.unlink()
    with pytest.raises(UserError, match="not found"):
        start_from(net, facts, folder)
    weights.write_bytes(whole)
    write_json(folder / "model.json", read_json(folder / "model.json") | {"format": 99})
    with pytest.raises(UserError, match="format version 99"):
        start_from(net, facts, folder)
