"""The door: proof that a network ends in a linear layer, so that its logits can have any sign and size."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.constructor import in_short
from pipeline.volume.grid import Int3

Shape = tuple[int, ...]

SMALL_VOX = 32
# Names of autograd nodes as `operation` gives them. Layers: linear, with weights, output of any sign and size.
LAYERS = {"Convolution", "Addmm", "Mm", "Linear"}
SUMS = {"Add", "Sub", "Rsub", "Sum", "Mean"}
PRODUCTS = {"Mul", "Div"}
REARRANGEMENTS = {
    "AdaptiveAvgPool3D", "Alias", "AsStrided", "AvgPool3D", "Cat", "Clone", "ConstantPadNd", "Dropout", "Expand",
    "Flip", "Neg", "Permute", "ReflectionPad3D", "Repeat", "ReplicationPad3D", "ReshapeAlias", "Roll", "Select",
    "Slice", "Split", "SplitWithSizes", "Squeeze", "Stack", "T", "ToCopy", "Transpose", "Unbind", "UnsafeView",
    "Unsqueeze", "UpsampleNearest3D", "UpsampleNearestExact3D", "UpsampleTrilinear3D", "View",
}  # fmt: skip
VIEWS = {"View", "UnsafeView", "ReshapeAlias"}  # an instance norm ends in one
PARAMETER = "AccumulateGrad"

CONSEQUENCES = (
    (r"^Relu|Thresh", "Logits could never be negative: background cannot be said; the loss stays at ln 2 = 0.693"),
    (r"Sigmoid|Softmax|Logsumexp", "The loss takes raw logits and applies this itself; twice, it cannot come near 0"),
    (r"Tanh|tanh|Clamp", "Logits would be bounded, and no probability could come near 0 or 1"),
    (r"Norm", "Mean and spread of the logits would be forced on every sample, whether it holds the structure or not"),
    (r"[rR]elu|[eE]lu|Silu|swish|Softplus|Mish", "Logits of one sign would be squeezed, and learnt many times slower"),
    (r"^CopySlices$", "What is written into a part of a tensor cannot be looked through: join parts by torch.cat"),
    (r"^Mul$|^Div$", "A product of two computed tensors is no linear layer: a gate could hold every logit at 0"),
)
OTHERWISE = "Logits of any sign and size could not be expressed"


@dataclass(frozen=True)
class Verdict:
    """What the probe has seen.

    text: one sentence for the log. channels_out: of the prediction. output_shapes: (B, C, x, y, z) of each output in
    training mode, the prediction first, for an input of probed_vox. parameters: how many numbers are trained.
    """

    text: str
    channels_out: int
    output_shapes: tuple[Shape, ...]
    probed_vox: Int3
    parameters: int


def probe(module: nn.Module, patch_vox: Int3, *, channels_in: int = 1, channels_out: int | None = None) -> Verdict:
    """Run a copy of the network on a small patch in training and in eval mode, and look at how every output ends.

    From each output the autograd graph is walked back through linear operations to the first layer with weights.
    Anything else on the way (an activation, a norm, a clamp, a product of two computed tensors) is refused. A sum
    passes if one of its branches does. The network and torch's generators are left as they were.

    Raises UserError that names the operation and its module, says what it does to training, and what to do; also where
    the network cannot be run, or an output has another shape than the contract of `nets.registry.build` says.
    """
    network = copy.deepcopy(module)
    size, outputs, places = run_somewhere(network.train(), (small_size(module, patch_vox), patch_vox), channels_in)
    check_shapes(outputs, 2, size, channels_out)
    for number, output in enumerate(outputs):
        check_ending(output, number, places, network)
    _, answers, places = run_somewhere(network.eval(), (size,), channels_in)
    if len(answers) != 1:
        raise UserError(f"net.name: {described(network)} returns {len(answers)} outputs in eval mode; expected one.")
    check_shapes(answers, 1, size, outputs[0].shape[1])
    check_ending(answers[0], 0, places, network)
    parameters = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    channels = outputs[0].shape[1]
    return Verdict(
        f"{described(network)} ends in a linear layer: {channels} channels, {parameters:,} parameters",
        channels,
        tuple(tuple(output.shape) for output in outputs),
        size,
        parameters,
    )


def small_size(module: Any, patch_vox: Int3) -> Int3:
    """Return the smallest legal size of at least 32 voxels, or of the patch where that is smaller."""
    x, y, z = (
        max(ceil(min(n, SMALL_VOX) / step), ceil(low / step)) * step
        for n, low, step in zip(patch_vox, module.smallest_vox, module.multiple_vox, strict=True)
    )
    return x, y, z


def run_somewhere(
    network: nn.Module, sizes: Sequence[Int3], channels_in: int
) -> tuple[Int3, list[Tensor], dict[Any, str]]:
    """Run the network at the first size that it takes: some are made for one size, and that is the patch's.

    Returns the size, the outputs, and the innermost module that each recorded autograd node is the output of.
    """
    for size in dict.fromkeys(sizes):
        try:
            return size, *run(network, size, channels_in)
        except UserError:
            raise
        except Exception as error:  # a foreign network may raise anything
            refusal = error
    raise UserError(
        f"net.name: {described(network)} cannot be run on a patch of {list(size)} voxels in "
        f"{'training' if network.training else 'eval'} mode: {in_short(refusal)}."
    ) from refusal


def run(network: nn.Module, size: Int3, channels_in: int) -> tuple[list[Tensor], dict[Any, str]]:
    """Run the network with gradients on noise: two samples in training mode, one in eval mode."""
    places: dict[Any, str] = {}
    handles = [
        part.register_forward_hook(lambda part, _, output, name=name: note(places, name, part, output))
        for name, part in network.named_modules()
        if part is not network
    ]
    weight = next(network.parameters(), torch.zeros(()))
    shape = (2 if network.training else 1, channels_in, *size)
    gpus = [weight.device] if weight.is_cuda else []  # not all of the machine, which is what fork_rng takes by itself
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)
    try:
        with torch.random.fork_rng(gpus), torch.enable_grad():
            output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    return (list(output) if isinstance(output, list | tuple) else [output]), places


def note(places: dict[Any, str], name: str, part: nn.Module, output: Any) -> None:
    """Remember which module a node is the output of, seen through views; of nested ones the innermost."""
    for tensor in output if isinstance(output, list | tuple) else (output,):
        node = tensor.grad_fn if isinstance(tensor, Tensor) else None
        while node is not None:
            places.setdefault(node, f"module {name} ({type(part).__name__})")
            node = node.next_functions[0][0] if operation(node) in VIEWS else None


def check_shapes(outputs: Sequence[Tensor], batch: int, size: Int3, channels_out: int | None) -> None:
    """Refuse outputs that are no tensors of logits, or a prediction of another size than the input."""
    for number, output in enumerate(outputs):
        if not isinstance(output, Tensor) or output.dim() != 5 or not output.is_floating_point():
            found = f"{output.dtype} of {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"net.name: output {number} is {found}; expected floating point (batch, channel, x, y, z).")
    wanted = (batch, channels_out or outputs[0].shape[1], *size)
    if tuple(outputs[0].shape) != wanted:
        raise UserError(
            f"net.name: an input of {list(size)} voxels gives a prediction of (batch, channel, x, y, z) = "
            f"{tuple(outputs[0].shape)}; expected {wanted}."
        )
    if len({output.shape[1] for output in outputs}) > 1:
        raise UserError(f"net.name: outputs have different channels: {[output.shape[1] for output in outputs]}.")


def check_ending(output: Tensor, number: int, places: dict[Any, str], network: nn.Module) -> None:
    """Refuse an output that is reached through anything but linear operations from its last layer with weights."""
    which = f"{described(network)}{f', output {number},' if number else ''}"
    if output.grad_fn is None:
        raise UserError(
            f"net.name: {which} has no gradient: its logits were detached or decided; return what the last layer gives."
        )
    node = offender(output.grad_fn)
    if node is None:
        return
    name = operation(node)
    where = f" in {places[node]}" if node in places else ""
    consequence = next((text for pattern, text in CONSEQUENCES if re.search(pattern, name)), OTHERWISE)
    raise UserError(
        f"net.name: {which} ends in {name}{where}, not in a linear layer. {consequence}. Take it out, or put a 1x1x1 "
        "convolution behind it: activation belongs to the loss and to the decision."
    )


def offender(node: Any) -> Any | None:
    """Return the first autograd node on the way back from `node` that is not linear; None where there is none."""
    name = operation(node)
    if name in LAYERS:
        return None
    before = [following for following, _ in node.next_functions if following is not None]
    computed = [following for following in before if operation(following) != PARAMETER]
    found = [offender(following) for following in computed] if name in SUMS | PRODUCTS | REARRANGEMENTS else []
    if not found:
        return node
    if name in SUMS:
        return None if None in found else found[0]
    if name in PRODUCTS:
        one_factor = len(found) == 1 and not (name == "Div" and node.next_functions[0][0] not in computed)
        return found[0] if one_factor else node
    return next((bad for bad in found if bad is not None), None)


def operation(node: Any) -> str:
    """Return the name of an autograd node's operation: "NativeBatchNormBackward0" -> "BatchNorm"."""
    return re.sub(r"^(Native|Cudnn|Mkldnn|Miopen)|Backward\d*$", "", node.name().rsplit("::", 1)[-1])


def described(network: nn.Module) -> str:
    """Return the name of the network's class."""
    return type(network).__name__
