import pytest
import torch
from torch import nn

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels
from pipeline.model import Model, ModelFacts
from pipeline.nets.probe import probe
from pipeline.nets.registry import build
from pipeline.nets.strip import strip_final_activations
from pipeline.volume.intensity import Intensity

SIZE = (8, 8, 8)


class Ends(nn.Module):
    """Two convolutions, and what a function of the network makes of their results."""

    multiple_vox = smallest_vox = (1, 1, 1)

    def __init__(self, end, **parts):
        super().__init__()
        self.convolution = nn.Conv3d(1, 4, 3, padding=1)
        self.other = nn.Conv3d(4, 4, 1)
        for name, part in parts.items():
            setattr(self, name, part)
        self.end = end

    def forward(self, image):
        first = self.convolution(image)
        return self.end(self, first)


def by_act(net, features):
    return net.act(features)


@pytest.mark.parametrize(
    ("end", "parts", "taken"),
    [
        (by_act, {"act": nn.ReLU(inplace=True)}, ["act (ReLU)"]),
        (by_act, {"act": nn.PReLU()}, ["act (PReLU)"]),
        (by_act, {"act": nn.Sequential(nn.Conv3d(4, 4, 1), nn.Softmax(1), nn.Dropout(0.2))}, ["act.1 (Softmax)"]),
        (by_act, {"act": nn.Sequential(nn.LeakyReLU(), nn.Sigmoid())}, ["act.1 (Sigmoid)", "act.0 (LeakyReLU)"]),
        (lambda net, y: net.act(y) if not net.training else y, {"act": nn.Sigmoid()}, ["act (Sigmoid)"]),
        (lambda net, y: [net.act(y), net.act(net.other(y))] if net.training else net.act(y), {"act": nn.Sigmoid()},
         ["act (Sigmoid)"]),
        (lambda net, y: [net.act(y), net.late(net.other(y))] if net.training else net.act(y),
         {"act": nn.Sigmoid(), "late": nn.Tanh()}, ["act (Sigmoid)", "late (Tanh)"]),
        (lambda net, y: torch.cat([net.act(y[:, :2]), net.act(y[:, 2:])], 1), {"act": nn.Sigmoid()}, ["act (Sigmoid)"]),
        (lambda net, y: net.act(y) + net.late(y), {"act": nn.ReLU(), "late": nn.Tanh()}, ["act (ReLU)", "late (Tanh)"]),
        (lambda net, y: net.other(torch.relu(y)), {}, []),
    ],
)  # fmt: skip
def test_activations_that_outputs_end_in_are_taken_off(end, parts, taken):
    net = Ends(end, **parts)
    if taken:
        with pytest.raises(UserError, match=r"Set net\.strip_final_activation=true"):
            probe(net, SIZE)
    assert strip_final_activations(net, SIZE, 1) == taken
    assert probe(net, SIZE).channels_out == 4


def test_what_is_left_computes_what_came_before_the_activation():
    net = Ends(by_act, act=nn.Sequential(nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 1), nn.Sigmoid())).eval()
    image = torch.randn(1, 1, *SIZE)
    before, weights = net(image), {name: value.clone() for name, value in net.state_dict().items()}
    assert strip_final_activations(net, SIZE, 1) == ["act.3 (Sigmoid)"]
    assert not net.training
    torch.testing.assert_close(net(image), torch.logit(before), atol=1e-5, rtol=1e-4)
    assert net.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_an_activation_with_two_names_is_taken_off_under_both():
    act = nn.Sigmoid()
    net = Ends(lambda net, y: net.act(y) if net.training else net.alias(y), act=act, alias=act)
    assert strip_final_activations(net, SIZE, 1) == ["act (Sigmoid)"]
    assert isinstance(net.alias, nn.Identity)


@pytest.mark.parametrize(
    ("end", "parts", "sentence"),
    [
        (lambda net, y: torch.sigmoid(y), {}, "ends in Sigmoid, which its forward calls and which is no module"),
        (lambda net, y: net.drop(torch.relu(y)), {"drop": nn.Dropout(0.0)}, "ends in Relu, which its forward calls"),
        (lambda net, y: net.act(net.other(net.act(y))), {"act": nn.ReLU()}, r"module act \(ReLU\), which is used insi"),
        (lambda net, y: net.act(net.other(net.act(torch.zeros(())) + y)), {"act": nn.ReLU()}, "is used inside"),
        (lambda net, y: [net.other(net.act(y)), net.act(y)] if net.training else net.other(y), {"act": nn.ReLU()},
         "is used inside"),
        (lambda net, y: (lambda a: [net.other(a), a] if net.training else net.other(a))(net.act(y)),
         {"act": nn.ReLU()}, "is used inside"),
        (by_act, {"act": nn.InstanceNorm3d(4)}, "ends in BatchNorm, a norm and no activation"),
        (by_act, {"act": nn.Sequential(nn.GroupNorm(2, 4), nn.ReLU())}, "ends in GroupNorm, a norm"),
        (by_act, {"act": Ends(lambda net, y: torch.tanh(y))}, r"ends in Tanh, which its forward of act \(Ends\) calls"),
    ],
)  # fmt: skip
def test_an_ending_that_cannot_be_taken_off_gets_a_sentence_and_no_promise(end, parts, sentence):
    if isinstance(parts.get("act"), Ends):
        parts["act"].convolution = nn.Conv3d(4, 4, 1)
    net = Ends(end, **parts)
    with pytest.raises(UserError, match=f"net.strip_final_activation: Ends .*{sentence}.*1x1x1 convolution behind it"):
        strip_final_activations(net, SIZE, 1)
    with pytest.raises(UserError, match="Take it out of the code, or put a 1x1x1 convolution behind it"):
        probe(net, SIZE)


CODE = """
from torch import nn

class Published(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, num_classes, 1))
        self.act = nn.Sequential(nn.PReLU(), nn.Sigmoid())
    def forward(self, image):
        return self.act(self.layers(image))

class OfOneSize(Published):
    def forward(self, image):
        if image.shape[2:] != (24, 24, 24):
            raise ValueError("made for 24")
        return super().forward(image)
"""


@pytest.fixture
def published(tmp_path, monkeypatch):
    (tmp_path / "published_nets.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "published_nets"


@pytest.mark.parametrize("checkpoint", ["none", "blocks"])
def test_the_key_takes_it_off_and_says_so_and_a_model_folder_loads_the_same_network(
    published, tmp_path, caplog, checkpoint
):
    section = NetSection(name=f"{published}:OfOneSize", strip_final_activation=True)
    with caplog.at_level("INFO", logger="hounsfield"):
        net = build(section, 1, 2, (24, 24, 24))
    assert "took off act.1 (Sigmoid), act.0 (PReLU)" in caplog.text
    labels = Labels({"liver": (1,)})
    intensity = Intensity(window_hu=(-200, 400), gamma=1.0, mean=0.5, std=0.2)
    facts = ModelFacts(Head("softmax", labels), labels, (2.0, 2.0, 2.0), intensity, (24, 24, 24), section)
    Model(facts, net).save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", allow=section.name)
    image = torch.randn(1, 1, 24, 24, 24)
    assert torch.equal(loaded.net(image), net.eval()(image))
    assert loaded.net(image).min() < 0


def test_a_network_without_a_final_activation_stays_as_it_is(caplog):
    with caplog.at_level("INFO", logger="hounsfield"):
        build(NetSection(options={"channels": [4, 8]}, strip_final_activation=True), 1, 2)
    assert "UNet3d ends in a linear layer: there is none" in caplog.text
