"""Why patch, batch and network are what they are, in words."""

from math import ceil, prod
from typing import Any

from pipeline.log import by
from pipeline.nets.axes import product_of
from pipeline.planning.choice import AS_GIVEN, Choice
from pipeline.planning.cost import GIB, Cost
from pipeline.planning.network import full_strides
from pipeline.planning.size import Size, Target

RECOMPUTED = {
    "blocks": "memory is short without it: blocks are run twice",
    "deep": "memory is short without it, and with blocks too: larger parts are run again and their blocks once more",
}


def patch_reason(size: Size, target: Target, name: str, *, given: bool) -> str:
    """Return why the patch is as large as it is, with what a step costs. name: of the device that measured."""
    share = prod(size.trial.patch_vox) / prod(size.body_vox)
    limit = {
        "memory": f"as large as {target.memory_bytes / GIB:.3g} GiB allow",
        "time": f"as large as {target.seconds or 0:.3g} s a step allow",
        "the body": "it holds the whole median body",
    }[size.limiting]
    shape = f"the shape of the median body, {by(size.body_vox)} voxels, in multiples of the strides; {limit}"
    lines = [AS_GIVEN if given else shape, f"it covers {share:.0%} of that body"]
    lines.append(f"a step is predicted to take {cost_in_words(size.predicted, target)}, from two smaller ones")
    if target.elsewhere:
        lines.append(f"{name} stands in for that device, in float32; mixed precision takes less")
    if size.measured is None:
        lines.append("so large a step is not tried here")
    else:
        lines.append(f"measured on {name}: {cost_in_words(size.measured, target)}")
        total = size.measured.memory_bytes + (size.measured.program_bytes if target.program_counts else 0)
        if total > target.memory_bytes:
            lines.append(f"MORE THAN THE LIMIT of {target.memory_bytes / GIB:.3g} GiB")
    return "; ".join(lines)


def cost_in_words(cost: Cost, target: Target) -> str:
    """Return memory and seconds of a step."""
    program = f" beside the program's {cost.program_bytes / GIB:.2f}" if target.program_counts else ""
    return f"{cost.memory_bytes / GIB:.2f} GiB{program} and {cost.seconds:.2g} s"


def network_choices(size: Size, given: dict[str, Any], family_reason: str) -> dict[str, Choice]:
    """Return the network's keys that are written, by dotted key; given: its options in the config."""
    net = size.trial.net
    choices = {"net.name": Choice(net.name, "")}
    for key, value in net.options.items():
        reason = AS_GIVEN if key in given else option_reason(key, size, family_reason)
        choices[f"net.options.{key}"] = Choice(value, reason)
    if net.checkpoint in RECOMPUTED:
        choices["net.checkpoint"] = Choice(net.checkpoint, RECOMPUTED[net.checkpoint])
    return choices


def option_reason(key: str, size: Size, family_reason: str) -> str:
    """Return why an option of a planned network has its value."""
    if key == "channels":
        return family_reason
    if key == "decoder_convolutions":
        return "1 on a CPU: a second one at full resolution, on the way up, would cost the most"
    strides = full_strides(size.trial.net)
    multiple = product_of(strides)
    bottom = [ceil(n / step) for n, step in zip(size.trial.patch_vox, multiple, strict=True)]
    uneven = any(len(set(step)) > 1 for step in strides)
    why = "an axis is halved while 4 voxels of it are left"
    if uneven:
        why += ", and coarse axes wait for the fine ones"
    return f"{why}: {by(bottom)} voxels in the deepest stage, of {by(multiple)} voxels each"
