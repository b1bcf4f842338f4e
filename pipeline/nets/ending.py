"""How a tensor was computed, seen from its end: the operations behind the last layer with weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

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
NORM = "Norm"  # what is in the name of every normalisation

CONSEQUENCES = (
    (r"^Relu|Thresh", "Logits could never be negative: background cannot be said; the loss stays at ln 2 = 0.693"),
    (r"Sigmoid|Softmax|Logsumexp", "The loss takes raw logits and applies this itself; twice, it cannot come near 0"),
    (r"Tanh|tanh|Clamp", "Logits would be bounded, and no probability could come near 0 or 1"),
    (NORM, "Mean and spread of the logits would be forced on every sample, whether it holds the structure or not"),
    (r"[rR]elu|[eE]lu|Silu|swish|Softplus|Mish", "Logits of one sign would be squeezed, and learnt many times slower"),
    (r"^CopySlices$", "What is written into a part of a tensor cannot be looked through: join parts by torch.cat"),
    (r"^Mul$|^Div$", "A product of two computed tensors is no linear layer: a gate could hold every logit at 0"),
)
OTHERWISE = "Logits of any sign and size could not be expressed"


@dataclass(frozen=True, eq=False)
class Ending:
    """What stands behind the last layer: autograd nodes.

    offenders: the last operations that are not linear; empty where the tensor ends in a linear layer. path: the linear
    operations behind them.
    """

    offenders: list[Any] = field(default_factory=list)
    path: set[Any] = field(default_factory=set)


def ending_of(output: Tensor) -> Ending:
    """Return what is found on the way back from a tensor with a gradient, through linear operations, to its last layer.

    A sum ends linearly if one of its branches does: its output has any sign and size.
    """
    return _ending(output.grad_fn)


def _ending(node: Any) -> Ending:
    name = operation(node)
    if name in LAYERS:
        return Ending()
    before = [following for following, _ in node.next_functions if following is not None]
    computed = [following for following in before if operation(following) != PARAMETER]
    found = [_ending(following) for following in computed] if name in SUMS | PRODUCTS | REARRANGEMENTS else []
    one_factor = len(found) == 1 and not (name == "Div" and node.next_functions[0][0] not in computed)
    if not found or (name in PRODUCTS and not one_factor):
        return Ending([node])
    if name in SUMS and not all(branch.offenders for branch in found):
        return Ending()
    offenders = list(dict.fromkeys(bad for branch in found for bad in branch.offenders))
    return Ending(offenders, {node}.union(*(branch.path for branch in found))) if offenders else Ending()


def consequence_of(node: Any) -> str:
    """Return what an ending in this operation would have done to training."""
    return next((text for pattern, text in CONSEQUENCES if re.search(pattern, operation(node))), OTHERWISE)


def operation(node: Any) -> str:
    """Return the name of an autograd node's operation: "NativeBatchNormBackward0" -> "BatchNorm"."""
    return re.sub(r"^(Native|Cudnn|Mkldnn|Miopen)|Backward\d*$", "", node.name().rsplit("::", 1)[-1])


def users_of(nodes: Sequence[Any], outputs: Sequence[Tensor]) -> set[Any]:
    """Return the nodes, among all that the outputs were computed by, that take what one of `nodes` gave."""
    wanted, seen, users = set(nodes), set(), set()
    waiting = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        before = [following for following, _ in node.next_functions]
        if wanted.intersection(before):
            users.add(node)
        waiting += before
    return users
