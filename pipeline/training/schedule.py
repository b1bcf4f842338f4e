"""The learning rate of each step."""

from math import cos, pi

from pipeline.config.train import TrainSection

LOWEST = 0.01  # of the largest rate, where triangular2 begins, ends and turns


def learning_rate(step: int, steps: int | None, train: TrainSection) -> float:
    """Return the rate of a step (1 to steps): a linear warm-up to `train.lr`, then `train.schedule`; above 0.

    It depends on its arguments alone, so that there is no state to save. steps: length of the run; None while it is
    not known yet, which holds the rate that the schedule begins with.
    """
    warmup_steps = train.warmup(steps)
    risen = min(1.0, step / (warmup_steps + 1))
    if steps is None:
        return train.lr * risen * factor(0.0, train)
    done = max(0, step - 1 - warmup_steps) / max(1, steps - warmup_steps)
    return train.lr * risen * factor(done, train)


def factor(done: float, train: TrainSection) -> float:
    """Return what `train.lr` is multiplied by once a share (0 to below 1) of the steps after the warm-up is done.

    Sources: a half cosine, Loshchilov and Hutter 2017; polynomial, Chen et al. 2018 (DeepLab) and nnU-Net; triangular2,
    Smith 2017.
    """
    match train.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + cos(pi * done))
        case "polynomial":
            return (1 - done) ** train.power
        case "step":
            return train.drop_factor ** sum(done >= place for place in train.drop_at)
        case "triangular2":
            cycle, within = divmod(done * train.cycles, 1)
            return LOWEST + (1 - LOWEST) * (1 - abs(2 * within - 1)) * 0.5**cycle
