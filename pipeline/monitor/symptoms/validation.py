"""What two validations tell: what is never found, found elsewhere, or known by heart."""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from statistics import median_high

from pipeline.log import listed
from pipeline.monitor.checkup import Checkup
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms.finding import Finding
from pipeline.monitor.symptoms.window import USUAL_LR, entropies, last, mean, median, patience_steps
from pipeline.monitor.vitals import Vitals

ALL_BACKGROUND = "all background"
NOTHING_FOUND = "nothing found"
NEVER_PREDICTED = "a class never predicted"
OVER_FITTING = "over-fitting"
FAR_FALSE_ALARMS = "patch scores far over volume scores"
SWAPPED = "left and right swapped"
LR_TOO_LOW = "learning rate too low"

NOTHING = 0.01  # Dice of a target that a few voxels hit by chance
LEARNT = 0.5  # Dice of at least half of the targets in both: the run has long come far enough to miss one
KNOWN_BY_HEART = 0.25  # Dice of training patches over that of held-out ones; 0.1 is usual
FALLEN = 0.03  # Dice of held-out volumes below their best; less is noise between validations
FAR_GAP = 0.25  # Dice near the targets over that of the volumes
NEAR_LEARNT = 0.5  # Dice near the targets: before that all over the volume is guesswork
CLOSING = 0.05  # by which the gap shrinks from one validation to the next in a run that is on its way
MIRRORED = 0.1  # Dice with the partner's truth over that with its own; a run that knows no sides has about 0
SMALL_UPDATE = 3e-5  # of the weights' length in a step; 1e-3 to 1e-2 is usual
AT_FULL_RATE = 0.5  # of train.lr: warm-up and the end of a schedule are left out
ALIVE_NORM = 1e-4  # of gradients
HARDLY_MOVED = 0.05  # of the loss
RECENT, FEW = 200, 10  # records that this is judged by, at most and at least
UNLEARNT_DICE = 0.5  # a run that scores better may go slowly


def all_background(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Two validations without any foreground."""
    two = checkups[-2:]
    if not _found_nothing(two, facts, predicted=False):
        return None
    evidence = (
        f"the validations of steps {two[0].step} and {two[1].step} found nothing, where "
        f"{_foreground(two[-1].truth_share):.2%} of the voxels are foreground"
    )
    cure = (
        "raise the weight of foreground: loss.name=auto (with a Dice), loss.class_weights={background: 0.3}, "
        "sample.positive=0.75; see that labels lie on the images (doctor data), and give it more train.steps"
    )
    return Finding(ALL_BACKGROUND, evidence, cure)


def nothing_found(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Two validations with foreground, be it a few voxels, that hits nothing."""
    two = checkups[-2:]
    if not _found_nothing(two, facts, predicted=True):
        return None
    evidence = (
        f"no target has a Dice over {NOTHING:g} in the validations of steps {two[0].step} and {two[1].step}, where "
        f"{_foreground(two[-1].predicted_share):.2%} of the voxels were predicted as foreground and "
        f"{_foreground(two[-1].truth_share):.2%} are"
    )
    cure = (
        "see that labels lie on the images and training and held-out cases name classes alike (doctor data); where "
        "little is predicted raise the weight of foreground (loss.name=auto, loss.class_weights={background: 0.3}, "
        "sample.positive=0.75); give it more train.steps"
    )
    return Finding(NOTHING_FOUND, evidence, cure)


def _found_nothing(two: Sequence[Checkup], facts: RunFacts, *, predicted: bool) -> bool:
    """Say whether two validations, the last one late enough, have hit none of the targets that there are.

    predicted: whether both have foreground, or else neither. What has just begun to predict some is on its way.
    """
    if len(two) < 2 or two[-1].step <= patience_steps(facts):
        return False
    nothing = all(c.present_dice and max(c.present_dice.values()) <= NOTHING for c in two)
    return nothing and all((_foreground(c.predicted_share) > 0) is predicted for c in two)


def _foreground(shares: Mapping[str, float]) -> float:
    return sum(share for name, share in shares.items() if name != "background")


def never_predicted(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Targets that no voxel was rightly given in two validations, while training drew them and most others are learnt.

    A class must not have been predicted at all; a region, which may be written as another class, has only its Dice.
    """
    two = checkups[-2:]
    if len(two) < 2 or two[-1].step <= patience_steps(facts):
        return None
    if any(not c.present_dice or median_high(c.present_dice.values()) < LEARNT for c in two):
        return None
    drawn = {name: sum(record.drawn.get(name, 0) for record in history) for name in facts.classes}
    missed = [
        name
        for name in facts.targets
        if drawn.get(name, 1) and all(c.present_dice.get(name) == 0 and not c.predicted_share.get(name) for c in two)
    ]
    if not missed:
        return None
    evidence = f"not a voxel of {listed(missed)} was found in the validations of steps {two[0].step} and {two[1].step}"
    cure = (
        f"weigh it up (loss.class_weights={{{missed[0]}: 5}}), look at its labels (doctor data), and see that no later "
        "region of labels.regions overwrites it"
    )
    return Finding(NEVER_PREDICTED, evidence, cure)


def over_fitting(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Training patches far better than held-out ones while the held-out volumes get worse."""
    if len(checkups) < 2:
        return None
    now = checkups[-1]
    common = [name for name in now.near_dice if name in now.training_dice]
    known, new = (mean(dice[name] for name in common) for dice in (now.training_dice, now.near_dice))
    *before, score = (mean(checkup.present_dice.get(name, nan) for name in common) for checkup in checkups)
    best = max((each for each in before if not isnan(each)), default=0.0)
    if not (known - new >= KNOWN_BY_HEART and best - score >= FALLEN):
        return None
    evidence = (
        f"Dice is {known:.2f} on training patches and {new:.2f} on held-out ones in step {now.step}, and on held-out "
        f"volumes it fell from {best:.2f} to {score:.2f}"
    )
    cure = (
        "the best model is kept: stop with train.patience, augment more (augment.preset=default), take more cases or a "
        "smaller network; see that training and held-out cases come from the same kind of scan"
    )
    return Finding(OVER_FITTING, evidence, cure, fatal=False)


def far_false_alarms(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Targets found well where they are, and elsewhere in the same cases too, without getting better."""
    if len(checkups) < 2 or checkups[-1].step <= patience_steps(facts):
        return None
    before, now = (mean(c.near_dice.values()) - mean(c.present_dice.values()) for c in checkups[-2:])
    near, whole = mean(checkups[-1].near_dice.values()), mean(checkups[-1].present_dice.values())
    if not (near >= NEAR_LEARNT and now >= FAR_GAP and before >= FAR_GAP and before - now < CLOSING):
        return None
    evidence = (
        f"Dice is {near:.2f} within a patch around the targets and {whole:.2f} over the volumes of step "
        f"{checkups[-1].step}: the rest is found far from them"
    )
    cure = (
        "show training more of the rest of the body: sample.positive=0.5 or less, a larger sample.patch_vox; "
        "infer.keep_largest where a class is one object"
    )
    return Finding(FAR_FALSE_ALARMS, evidence, cure, fatal=False)


def swapped(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Both of a pair fit the truth of the other side better than their own."""
    if len(checkups) < 2:
        return None
    now = checkups[-1]
    margin = {name: now.partner_dice.get(name, 0.0) - now.present_dice.get(name, 1.0) for name in facts.partners}
    pairs = [
        (name, other)
        for name, other in facts.partners.items()
        if name < other and margin[name] >= MIRRORED and margin.get(other, 0.0) >= MIRRORED
    ]
    if not pairs:
        return None
    told = "; ".join(
        f"{name} has Dice {now.present_dice[name]:.2f} with its own truth and {now.partner_dice[name]:.2f} with that "
        f"of {facts.partners[name]}"
        for pair in pairs for name in pair
    )  # fmt: skip
    cure = (
        "see that all label files name sides the same way, and affines have the same handedness (doctor data); name "
        "the pair under labels.swap where augment.mirror or infer.mirror has x"
    )
    return Finding(SWAPPED, told, cure)


def lr_too_low(history: Sequence[Vitals], facts: RunFacts, checkups: Sequence[Checkup]) -> Finding | None:
    """Weights that hardly change at the full rate, with live gradients and a loss that stays where it was.

    Trained weights that a run began with are meant to change slowly.
    """
    records = [record for record in last(history, RECENT) if record.lr >= AT_FULL_RATE * facts.lr]
    if facts.warm or len(checkups) < 2 or len(records) < FEW:
        return None
    share, norm = median(r.update_share for r in records), median(r.grad_norm for r in records)
    half = len(records) // 2
    known = entropies(records, facts)  # patches change a Dice more than this
    losses = known or [record.loss for record in records]
    first, late = median(losses[:half]), median(losses[half:])
    dice = mean(checkups[-1].present_dice.values())
    if not (share < SMALL_UPDATE and norm > ALIVE_NORM and abs(first - late) <= HARDLY_MOVED * abs(first)):
        return None
    if not dice < UNLEARNT_DICE:
        return None
    evidence = (
        f"a step changes the weights by {share:.1g} of their length (1e-3 is usual) with gradients of {norm:.2g}; the "
        f"{'cross-entropy' if known else 'loss'} went from {first:.4g} to {late:.4g} up to step {records[-1].step}"
    )
    usual = f"{USUAL_LR[facts.optimiser]:g} is usual with {facts.optimiser}"
    return Finding(LR_TOO_LOW, evidence, f"take train.lr={facts.lr * 100:g} or so (it is {facts.lr:g}; {usual})")
