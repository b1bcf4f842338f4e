"""The door: proof that a network ends in a linear layer, so that its logits can have any sign and size."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.device import is_out_of_memory
from pipeline.errors import UserError
from pipeline.nets.constructor import RAISED, in_short
from pipeline.nets.ending import consequence_of, ending_of, operation
from pipeline.nets.strip import KEY, strip_final_activations
from pipeline.nets.trace import Trace, kind_of, noise, own_numbers, small_sizes, tensors_of, trace
from pipeline.volume.grid import Int3

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What the probe has seen.

    text: one sentence for the log. channels_out: of the prediction. output_shapes: (B, C, x, y, z) of each output in
    training mode, the prediction first, for an input of probed_vox. parameters: how many numbers are trained. unused:
    names of the weights that no output depends on in training mode: they get no gradient. mixes_samples: whether in
    eval mode what is said of one sample depends on the others of its batch.
    """

    text: str
    channels_out: int
    output_shapes: tuple[Shape, ...]
    probed_vox: Int3
    parameters: int
    unused: tuple[str, ...] = ()
    mixes_samples: bool = False


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
        which = f"{name}, output {number}," if number else name
        check_ending(output, which, trained, network)
        check_finite(output, which)
    unused = without_gradient(network, outputs, name)
    answered = trace(network.eval(), (size,), channels_in)
    if len(answered.outputs) != 1:
        raise UserError(f"net.name: {name} returns {len(answered.outputs)} outputs in eval mode; expected one.")
    channels = outputs[0].shape[1]
    check_shapes(answered.outputs, 1, size, channels)
    check_ending(answered.outputs[0], name, answered, network)
    check_finite(answered.outputs[0], f"{name} in eval mode")
    mixed = mixes_samples(network, size, channels_in, name)
    text = f"{name} ends in a linear layer: {channels} channels, {parameters:,} parameters"
    shapes = tuple(tuple(output.shape) for output in outputs)
    return Verdict(text, channels, shapes, size, parameters, unused, mixed)


def without_gradient(network: nn.Module, outputs: Sequence[Tensor], name: str) -> tuple[str, ...]:
    """Return the names of the weights that a backward pass from all outputs leaves without a gradient.

    Raises UserError where there is no such pass.
    """
    try:
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"net.name: the backward pass of {name} ends with {in_short(error)}, and so would training; a network must "
            "not change in place what its backward pass needs."
        ) from error
    return tuple(key for key, weight in network.named_parameters() if weight.requires_grad and weight.grad is None)


def mixes_samples(network: nn.Module, size_vox: Int3, channels_in: int, name: str) -> bool:
    """True where the logits of one sample have a gradient in another: a prediction then depends on its neighbours.

    network: in eval mode; in training mode a batch norm mixes samples, and rightly.
    """
    image = noise(network, 2, channels_in, size_vox).requires_grad_()
    try:
        with own_numbers(image), torch.enable_grad():
            logits = tensors_of(network(image))[0]
            each = (logits * torch.randn_like(logits)).sum((1, 2, 3, 4))  # a plain sum may be the same for any input
            gradients = [torch.autograd.grad(one, image, retain_graph=True, allow_unused=True)[0] for one in each]
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"net.name: {name} cannot be run on two samples in eval mode: {in_short(error)}; as many as "
            "infer.windows are predicted at once."
        ) from error
    others = [gradient[1 - n] for n, gradient in enumerate(gradients) if gradient is not None]
    return any(bool((gradient.nan_to_num() != 0).any()) for gradient in others)


def check_head_weights(weights: Sequence[float], verdict: Verdict) -> None:
    """Raise UserError where `net.head_weights` are not as many as the outputs in training."""
    outputs = len(verdict.output_shapes)
    if weights and len(weights) != outputs:
        raise UserError(
            f"net.head_weights: found {len(weights)}, but the network has {outputs} outputs in training; expected one "
            "for each; leave them out for 1, 1/2, 1/4, ..."
        )


def check_finite(output: Tensor, which: str) -> None:
    """Refuse logits that are not numbers. which: the network and output in words."""
    if not output.isfinite().all():
        raise UserError(
            f"net.name: {which} returns NaN or infinite logits for a finite input, and no loss could be taken of them; "
            "look for a division by 0, or a root or logarithm of what is not above 0, in its forward."
        )


def check_shapes(outputs: Sequence[Tensor], batch: int, size_vox: Int3, channels_out: int | None) -> None:
    """Refuse outputs that are no tensors of logits, or a prediction of another size than the input."""
    for number, output in enumerate(outputs):
        if not isinstance(output, Tensor) or output.dim() != 5 or not output.is_floating_point():
            found = f"{output.dtype} of {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"net.name: output {number} is {found}; expected floating point (batch, channel, x, y, z).")
    wanted = (batch, channels_out or outputs[0].shape[1], *size_vox)
    given = tuple(outputs[0].shape)
    if given != wanted:
        cure = "pad its convolutions, or bring its logits back to the size of the input"
        if given[1] != wanted[1]:
            cure = "let its last layer have as many channels as its constructor is told"
        raise UserError(
            f"net.name: an input of {list(size_vox)} voxels gives a prediction of (batch, channel, x, y, z) = {given}; "
            f"expected {wanted}: {cure}."
        )
    if len({output.shape[1] for output in outputs}) > 1:
        raise UserError(
            f"net.name: outputs have different channels: {[output.shape[1] for output in outputs]}; expected "
            f"{wanted[1]} in each: return only outputs that are logits of the same classes."
        )


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
