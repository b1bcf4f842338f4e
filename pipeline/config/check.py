"""Settings that are right one by one and wrong together; checked before anything slow is imported."""

import difflib
import re

from pipeline.config.config import Config
from pipeline.config.infer import InferSection
from pipeline.config.labels import LabelsSection
from pipeline.errors import UserError
from pipeline.labels import Labels

_RIGHT_OF = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
OPPOSITE = _RIGHT_OF | {right: left for left, right in _RIGHT_OF.items()}
SIDE = re.compile(r"(?i:left|right)|(?<![A-Za-z])[LRlr](?![A-Za-z])|(?<=[a-z])[LR]$")


def check(config: Config) -> None:
    """Raise UserError where two settings contradict each other."""
    config.loss.check_used(config.head.kind)
    _check_parts(config)
    _check_precision(config)
    warmup = config.train.warmup(config.train.steps)
    if config.train.minutes is None and warmup >= config.train.steps:
        raise UserError(
            f"train.warmup_steps: {warmup} steps of warm-up leave none of train.steps={config.train.steps}; expected "
            f"fewer, such as train.warmup_steps={config.train.steps // 10}."
        )
    if config.train.fold != "all" and config.train.fold >= config.data.folds:
        raise UserError(
            f"train.fold: found {config.train.fold}, expected all or 0 to {config.data.folds - 1}, as data.folds is "
            f"{config.data.folds}."
        )
    if config.labels is not None:
        _check_reserved(config.labels)
        check_labels(config, config.labels.build())


def _check_parts(config: Config) -> None:
    """Refuse a batch that cannot be run in parts of one size; how many processes share it only training knows."""
    batch, parts = config.sample.batch, config.train.accumulate
    if batch % parts:
        raise UserError(
            f"train.accumulate: found {parts}, which a batch of {batch} patches cannot be divided by; expected a "
            "divisor of sample.batch; change either."
        )


def _check_precision(config: Config) -> None:
    """Refuse float16 where the device is said to be a CPU; whether `auto` means one only the machine knows."""
    for key, section in (("train", config.train), ("infer", config.infer)):
        if section.amp == "fp16" and section.device == "cpu":
            raise UserError(
                f"{key}.amp: found fp16, which needs a GPU, and {key}.device is cpu; expected auto, bf16 or off; set "
                f"{key}.amp=auto."
            )


def _check_reserved(section: LabelsSection) -> None:
    """Refuse a class name that is probably a misspelt key of `labels`: it would become a class in silence."""
    reserved = {name.lower(): name for name in LabelsSection.model_fields}
    for name in section.build().names:
        close = difflib.get_close_matches(name.lower(), list(reserved), n=1, cutoff=0.8)
        if close:
            raise UserError(
                f"labels.{name}: did you mean labels.{reserved[close[0]]}? A class may not have a name so close to it."
            )


def check_labels(config: Config, labels: Labels) -> None:
    """Raise UserError where settings and classes contradict each other.

    Stages that take their labels from dataset.json call it once these are read.
    """
    if config.head.kind == "regions" and not labels.regions:
        raise UserError(
            "labels.regions: found none, and head.kind=regions needs at least one; add "
            "`regions: {name: {classes: [...], write: class}}` under `labels`, or choose head.kind=softmax."
        )
    _check_loss(config, labels)
    if "x" in config.augment.mirror:
        _check_mirror(labels, "augment.mirror")


def check_inference(infer: InferSection, labels: Labels) -> None:
    """Raise UserError where the way to apply a model contradicts the classes of that model."""
    labels.indices_of(infer.keep_largest, "infer.keep_largest")
    if "x" in infer.mirror:
        _check_mirror(labels, "infer.mirror")


def _check_loss(config: Config, labels: Labels) -> None:
    """Refuse a weight or a tube that names no channel of the head."""
    names = [region.name for region in labels.regions] if config.head.kind == "regions" else list(labels.names)
    weighed = () if config.loss.class_weights == "auto" else config.loss.class_weights
    known = ["background", *names] if config.head.kind == "softmax" else names
    given = [("loss.class_weights.", name, known) for name in weighed]
    given += [("loss.tubes: ", name, names) for name in config.loss.tubes]
    for key, name, channels in given:
        if name not in channels:
            close = difflib.get_close_matches(name, channels, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(channels)}."
            raise UserError(f"{key}{name}: no channel of head.kind={config.head.kind} is called so; {hint}")


def _check_mirror(labels: Labels, key: str) -> None:
    """Mirroring on x turns a left organ into a right one: every class with a side needs its partner."""
    paired = {name for pair in labels.swap for name in pair}
    alone = [name for name in labels.names if names_side(name) and name not in paired]
    if alone:
        guessed = {tuple(sorted((name, other_side(name)))) for name in alone if other_side(name) in alone}
        pairs = [f"[{one}, {other}]" for one, other in [*labels.swap, *sorted(guessed)]]
        example = f"`swap: [{', '.join(pairs)}]`" if guessed else "`swap: [[left class, right class]]`"
        raise UserError(
            f"{key}: x exchanges left and right, and {', '.join(alone)} has no partner in labels.swap; add "
            f"the pairs, such as {example}, or leave x out of {key}."
        )


def other_side(name: str) -> str:
    """Return a class name with left and right exchanged: RightLung, lung_right, "L kidney"."""
    return SIDE.sub(lambda side: OPPOSITE.get(side[0], side[0]), name)


def names_side(name: str) -> bool:
    """Tell whether a class name says left or right: LeftLung, lung_left, lungleft, Lung_L, "R kidney"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower().split()
    if not words:
        return False
    if words[0] in ("l", "r") or words[-1] in ("l", "r"):
        return True
    # Three letters or more beside the side, so that "bright" and "cleft" are not taken for one.
    return any(re.fullmatch(r"(left|right)(\w{3,})?|\w{3,}(left|right)", word) for word in words)
