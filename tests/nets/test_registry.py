import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from pipeline.config.net import NetSection
from pipeline.errors import UserError
from pipeline.nets.probe import probe
from pipeline.nets.registry import build, check_patch
from pipeline.nets.unet3d import UNet3d

FOREIGN = """
from torch import nn

class Tiny(nn.Module):
    multiple_vox = 4
    def __init__(self, n_channels, n_classes, width: int = 3, **others):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(n_channels, width, 3, padding=1), nn.Conv3d(width, n_classes, 1))
    def forward(self, image):
        return self.layers(image)

class Several(Tiny):
    def forward(self, image):
        output = self.layers(image)
        return {
            "tuple": (output, output.mean()), "lists": [output, output[..., ::2]],
            "list": [None], "dict": {"logits": output}, "NoneType": None, "half": output[..., ::2],
        }[self.kind]

class NoWeights(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
    def forward(self, image):
        return image

class Published(Tiny):
    def forward(self, image):
        return self.layers(image).relu()

class NoOutput(nn.Module):
    def __init__(self, in_channels):
        super().__init__()

class Raises(Tiny):
    def __init__(self, in_channels, num_classes):
        raise RuntimeError("first line\\nsecond line")

class Leaves(Tiny):
    def __init__(self, in_channels, num_classes):
        raise SystemExit(7)

class Text(Tiny):
    multiple_vox = "x"

class Two(Tiny):
    smallest_vox = (2, 2)

class Lazy(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.first = nn.Sequential(nn.LazyConv3d(4, 3, padding=1), nn.LazyBatchNorm3d(), nn.ReLU())
        self.last = nn.LazyConv3d(num_classes, 1)
        self.coarser = nn.LazyConv3d(num_classes, 1)
    def forward(self, image):
        features = self.first(image)
        return [self.last(features), self.coarser(features)] if self.training or self.both else self.last(features)

class LazyInTraining(Lazy):
    both = False

class LazyThroughout(Lazy):
    both = True

def function():
    pass
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    (tmp_path / "foreign_nets.py").write_text(FOREIGN)
    (tmp_path / "broken_nets.py").write_text("raise ValueError('half written')")
    (tmp_path / "leaving_nets.py").write_text("raise SystemExit(7)")
    (tmp_path / "misspelt_nets.py").write_text("import torch\nclass Net(:\n")
    (tmp_path / "needing_nets.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "foreign_nets"


def section(name, **options):
    return NetSection(name=name, options=options)


def test_the_own_network_gets_channels_and_options():
    net = build(section("UNet3d", channels=[4, 8]), 2, 3)
    assert isinstance(net, UNet3d)
    assert net(torch.zeros(1, 2, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


@pytest.mark.parametrize(
    ("name", "options", "multiple", "smallest"),
    [
        ("UNet", {}, (8, 8, 8), (16, 16, 16)),
        ("UNet", {"channels": [4, 8, 8], "strides": [[2, 2, 1], 2]}, (4, 4, 2), (8, 8, 4)),
        ("DynUNet", {"strides": [1, 2, [2, 2, 1]], "filters": [4, 8, 8]}, (4, 4, 2), (8, 8, 4)),
        ("SegResNet", {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]}, (4, 4, 4), (8, 8, 8)),
        ("AttentionUnet", {"channels": [4, 8, 8]}, (4, 4, 4), (8, 8, 8)),
        ("BasicUNet", {"features": [4, 4, 4, 4, 4, 4]}, (1, 1, 1), (32, 32, 32)),
        ("SegResNetDS", {"init_filters": 8, "blocks_down": [1, 1, 1]}, (4, 4, 4), (8, 8, 8)),
    ],
)
def test_monai_networks_run_at_their_smallest_size_and_one_multiple_above(name, options, multiple, smallest):
    net = build(section(f"monai.{name}", **options), 1, 3)
    assert net.multiple_vox == multiple
    assert net.smallest_vox == smallest
    for size in (smallest, tuple(low + step for low, step in zip(smallest, multiple, strict=True))):
        check_patch(net, size, name)
        assert net.train()(torch.randn(2, 1, *size)).shape == (2, 3, *size)
        assert net.eval()(torch.randn(1, 1, *size)).shape == (1, 3, *size)


def test_a_monai_network_is_the_same_as_made_by_hand():
    torch.manual_seed(0)
    ours = build(section("monai.UNet"), 1, 3)
    torch.manual_seed(0)
    theirs = UNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2)
    image = torch.randn(2, 1, 16, 16, 16)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours(image), theirs(image))


def test_stacked_deep_supervision_becomes_a_list_and_one_tensor_in_eval_mode():
    options = {"strides": [1, 2, 2, 2], "filters": [4, 4, 4, 4], "deep_supervision": True, "deep_supr_num": 2}
    net = build(section("monai.DynUNet", **options), 1, 3)
    image = torch.randn(1, 1, 16, 16, 16)
    assert [output.shape for output in net(image)] == [(1, 3, 16, 16, 16)] * 3
    assert net.eval()(image).shape == (1, 3, 16, 16, 16)


def test_basic_unet_plus_plus_predicts_with_its_last_output():
    net = build(section("monai.BasicUNetPlusPlus", features=[4] * 6, deep_supervision=True), 1, 2).eval()
    last = []
    net.final_conv_0_4.register_forward_hook(lambda module, inputs, output: last.append(output))
    assert torch.equal(net(torch.randn(1, 1, 32, 32, 32)), last[0])


@pytest.mark.parametrize(("kind", "outputs"), [("tuple", 1), ("lists", 2)])
def test_outputs_of_a_foreign_network_take_the_form_of_the_contract(foreign, kind, outputs):
    net = build(section(f"{foreign}:Several"), 1, 3)
    net.kind = kind
    image = torch.randn(1, 1, 4, 4, 4)
    trained = net(image)
    assert (1 if isinstance(trained, torch.Tensor) else len(trained)) == outputs
    assert net.eval()(image).shape == (1, 3, 4, 4, 4)


@pytest.mark.parametrize("kind", ["list", "dict", "NoneType"])
def test_a_foreign_network_without_logits_is_refused(foreign, kind):
    net = build(section(f"{foreign}:Several"), 1, 3)
    net.kind = kind
    with pytest.raises(UserError, match=rf"Several returns no tensor of .* but {kind}; return one, or a list of them"):
        net(torch.zeros(1, 1, 4, 4, 4))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NoWeights", "NoWeights has no weight that can be trained; make its layers in __init__"),
        ("Published", "Published ends in Relu, not in a linear layer.*stays at ln 2.*Take it out of the code"),
        ("Several", r"\(2, 3, 8, 8, 4\); expected \(2, 3, 8, 8, 8\)"),
    ],
)
def test_a_foreign_network_that_could_not_learn_is_refused_at_the_door(foreign, name, sentence):
    net = build(section(f"{foreign}:{name}"), 1, 3)
    net.kind = "half"
    with pytest.raises(UserError, match=sentence):
        probe(net, (8, 8, 8), channels_out=3)


def test_lazy_layers_get_their_weights_when_a_network_is_made(foreign):
    torch.manual_seed(1)
    net = build(section(f"{foreign}:LazyThroughout"), 1, 3)
    assert net.training
    assert net.first[0].weight.shape == (4, 1, 3, 3, 3) and net.coarser.weight.shape == (3, 4, 1, 1, 1)
    assert torch.equal(net.first[1].running_mean, torch.zeros(4))
    assert probe(net, (8, 8, 8), channels_out=3).unused == ()
    torch.manual_seed(1)
    again = build(section(f"{foreign}:LazyThroughout"), 1, 3)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in net.state_dict().items())


def test_a_lazy_layer_that_prediction_leaves_out_is_named(foreign):
    with pytest.raises(UserError, match=r"runs without coarser \(LazyConv3d\) in eval mode.* give them their sizes"):
        build(section(f"{foreign}:LazyInTraining"), 1, 3)


def test_a_foreign_network_may_state_the_only_size_that_it_takes():
    net = nn.Identity()
    net.multiple_vox = net.smallest_vox = net.largest_vox = (8, 8, 8)
    check_patch(net, (8, 8, 8), "a.b:C")
    with pytest.raises(
        UserError, match=r"\[16, 8, 8\] does not suit a.b:C, which was made for patches of at most \[8, 8"
    ):
        check_patch(net, (16, 8, 8), "a.b:C")


def test_a_foreign_network_keeps_its_own_size_rule(foreign):
    net = build(section(f"{foreign}:Tiny", width=5, anything=1), 1, 3)
    assert net.multiple_vox == (4, 4, 4)
    assert net.smallest_vox == (1, 1, 1)
    assert net.layers[0].out_channels == 5


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("Unet3D", {}, "did you mean UNet3d"),
        ("monai.Unett", {}, r"^net.name: there is no network monai.Unett; did you mean monai.UNet\? docs/networks.md"),
        ("quite.different", {}, "expected UNet3d, UCTransNet3d, TransFuse3d, monai.NAME or package.module:Class"),
        ("monai.deprecated", {}, "there is no network monai.deprecated"),
        ("UNet3d", {"chanels": [4, 8]}, "no such option; did you mean channels. Known are channels, strides"),
        ("UNet3d", {"channels_out": 3}, "net.options.channels_out: set to 3 by the pipeline"),
        ("monai.UNet", {"chanels": [4, 8]}, "did you mean channels"),
        ("monai.UNet", {"in_channels": 1}, "set to 1 by the pipeline"),
        ("monai.UNet", {"channels": 4}, "cannot be made .* TypeError"),
        ("monai.UNet", {"channels": [4, 8], "strides": [2, 2, 2], "kernel_size": [3, 3]}, "kernel_size"),
        ("monai.UNETR", {}, "needs img_size"),
        ("monai.Quicknat", {}, "no argument for its input channels"),
        ("foreign_nets:NoOutput", {}, "no argument for its output channels; it has in_channels"),
        ("foreign_nets:Raises", {}, "RuntimeError: first line\\.$"),
        ("foreign_nets:function", {}, "no subclass of torch.nn.Module"),
        ("foreign_nets:Missing", {}, "no subclass of torch.nn.Module that is called Missing; it has Tiny, Several"),
        ("foreign_nets:Leaves", {}, "cannot be made with {}: SystemExit: 7"),
        ("foreign_nets:Text", {}, "foreign_nets:Text has multiple_vox = x; expected a whole number of at least 1"),
        ("foreign_nets:Two", {}, r"has smallest_vox = \[2, 2\]; expected a whole number"),
        ("broken_nets:Net", {}, r"cannot be imported: ValueError: half written \(.*broken_nets.py, line 1\); mend"),
        ("leaving_nets:Net", {}, r"cannot be imported: SystemExit: 7 \(.*leaving_nets.py, line 1\)"),
        ("misspelt_nets:Net", {}, "misspelt_nets.py, line 2: invalid syntax; mend that line"),
        ("needing_nets:Net", {}, "No module named 'no_such_library'; install that library with"),
        (":Net", {}, "found :Net; expected package.module:Class"),
        ("foreign_nets:", {}, "found foreign_nets:; expected package.module:Class"),
        ("no_such_package.nets:Net", {}, "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_made_gives_a_sentence(foreign, name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        build(section(name, **options), 1, 3)


@pytest.mark.parametrize(
    ("patch", "nearest"),
    [((30, 32, 32), r"\[32, 32, 32\]"), ((8, 32, 32), r"\[16, 32, 32\]"), ((16, 16, 27), r"\[16, 16, 24\]")],
)
def test_a_patch_that_does_not_suit_is_refused_with_the_nearest_that_does(patch, nearest):
    net = nn.Identity()
    net.multiple_vox, net.smallest_vox = (8, 8, 8), (16, 16, 16)
    with pytest.raises(UserError, match=f"does not suit monai.UNet.* the nearest is {nearest}. Fewer or smaller"):
        check_patch(net, patch, "monai.UNet")
    with pytest.raises(UserError, match=f"does not suit a:B.* the nearest is {nearest}. That is what its class states"):
        check_patch(net, patch, "a:B")
