"""The door: proof that a network ends in a linear layer, so that its logits can have any sign and size."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.ending import consequence_of, ending_of, operation
from pipeline.nets.strip import KEY, strip_final_activations
from pipeline.nets.trace import Trace, kind_of, small_sizes, trace
from pipeline.volume.grid import Int3

Shape = tuple[int, ...]


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
    the network has nothing to train or cannot be run, or an output has another shape than the contract of
    `nets.registry.build` says.
    """
    name = kind_of(module)
    parameters = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    if not parameters:
        raise UserError(f"net.name: {name} has no weight that can be trained; make its layers in __init__.")
    try:
        verdict = _probe(copy.deepcopy(module), name, parameters, patch_vox, channels_in, channels_out)
    except RefusedEnding as refusal:
        raise UserError(f"{refusal} {cure_for(module, patch_vox, channels_in)}") from None
    return verdict


class RefusedEnding(Exception):
    """An output does not end in a linear layer: in which operation, and what that does to training."""


def _probe(
    network: nn.Module, name: str, parameters: int, patch_vox: Int3, channels_in: int, channels_out: int | None
) -> Verdict:
    """Look at a copy of the network, which `probe` may change. Raises RefusedEnding beside UserError."""
    trained = trace(network.train(), small_sizes(network, patch_vox), channels_in)
    size, outputs = trained.size_vox, trained.outputs
    check_shapes(outputs, 2, size, channels_out)
    for number, output in enumerate(outputs):
        check_ending(output, f"{name}, output {number}," if number else name, trained, network)
    answered = trace(network.eval(), (size,), channels_in)
    if len(answered.outputs) != 1:
        raise UserError(f"net.name: {name} returns {len(answered.outputs)} outputs in eval mode; expected one.")
    channels = outputs[0].shape[1]
    check_shapes(answered.outputs, 1, size, channels)
    check_ending(answered.outputs[0], name, answered, network)
    text = f"{name} ends in a linear layer: {channels} channels, {parameters:,} parameters"
    return Verdict(text, channels, tuple(tuple(output.shape) for output in outputs), size, parameters)


def check_shapes(outputs: Sequence[Tensor], batch: int, size_vox: Int3, channels_out: int | None) -> None:
    """Refuse outputs that are no tensors of logits, or a prediction of another size than the input."""
    for number, output in enumerate(outputs):
        if not isinstance(output, Tensor) or output.dim() != 5 or not output.is_floating_point():
            found = f"{output.dtype} of {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"net.name: output {number} is {found}; expected floating point (batch, channel, x, y, z).")
    wanted = (batch, channels_out or outputs[0].shape[1], *size_vox)
    if tuple(outputs[0].shape) != wanted:
        raise UserError(
            f"net.name: an input of {list(size_vox)} voxels gives a prediction of (batch, channel, x, y, z) = "
            f"{tuple(outputs[0].shape)}; expected {wanted}."
        )
    if len({output.shape[1] for output in outputs}) > 1:
        raise UserError(f"net.name: outputs have different channels: {[output.shape[1] for output in outputs]}.")


def check_ending(output: Tensor, which: str, traced: Trace, network: nn.Module) -> None:
    """Refuse an output that is reached through anything but linear operations from its last layer with weights.

    which: the network and output in words. Raises UserError without a gradient, else RefusedEnding.
    """
    if output.grad_fn is None:
        raise UserError(
            f"net.name: {which} has no gradient: its logits were detached or decided; return what the last layer gives."
        )
    offenders = ending_of(output).offenders
    if not offenders:
        return
    node = offenders[0]
    place = traced.places.get(node)
    where = f" in module {place} ({kind_of(network.get_submodule(place))})" if place is not None else ""
    raise RefusedEnding(
        f"net.name: {which} ends in {operation(node)}{where}, not in a linear layer. {consequence_of(node)}."
    )


def cure_for(module: nn.Module, patch_vox: Int3, channels_in: int) -> str:
    """Return what to do about an ending: one key where that takes it off."""
    try:
        strip_final_activations(copy.deepcopy(module), patch_vox, channels_in)
        first = f"Set {KEY}=true, which takes it off"
    except UserError:
        first = "Take it out of the code"
    return f"{first}, or put a 1x1x1 convolution behind it: activation belongs to the loss and to the decision."
