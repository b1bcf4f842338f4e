"""Settings that are legal one by one and wrong together."""

import pytest

from pipeline.config.check import check_labels, names_side, other_side
from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.labels import Labels

LUNGS = "labels={LungLeft: 1, LungRight: 2}"
REGION = "labels.regions={all: {classes: [LungLeft, LungRight], write: LungLeft}}"


@pytest.mark.parametrize(
    ("argv", "key", "cure"),
    [
        (["head.kind=regions", LUNGS], "labels.regions", "regions: {name:"),
        (["head.kind=sigmoid", "loss.name=ce"], "loss.name", "bce_dice"),
        (["head.kind=sigmoid", "loss.name=dice_ce"], "loss.name", "bce_dice"),
        (["loss.name=bce"], "loss.name", "dice_ce"),
        (["loss.name=bce_dice"], "loss.name", "dice_ce"),
        ([LUNGS, "loss.tubes=[LungLeff]"], "loss.tubes: LungLeff", "did you mean LungLeft?"),
        ([LUNGS, "loss.class_weights.LungLeff=2"], "loss.class_weights.LungLeff", "did you mean LungLeft?"),
        ([LUNGS, "head.kind=sigmoid", "loss.class_weights.background=2"], "loss.class_weights.background", "LungLeft"),
        ([LUNGS, REGION, "head.kind=regions", "loss.class_weights.LungLeft=2"], "loss.class_weights.LungLeft", "all"),
        ([LUNGS, "augment.mirror=[x]"], "augment.mirror", "`swap: [[LungLeft, LungRight]]`"),
        (["labels={Lung_L: 1}", "augment.mirror=[x]"], "augment.mirror", "`swap: [[left class, right class]]`"),
        (["train.steps=50", "train.warmup_steps=50"], "train.warmup_steps", "train.warmup_steps=5"),
        (["train.fold=5"], "train.fold", "0 to 4"),
        (["loss.gamma=5"], "loss.gamma", "expected loss.name=focal or focal_tversky; choose that, or leave"),
        (["loss.name=focal", "loss.smooth=1"], "loss.smooth", "expected loss.name=dice or dice_ce"),
        (["loss.name=ce", "loss.alpha=0.2"], "loss.alpha", "which loss.name=ce makes no use of"),
        (["loss.name=dice", "loss.hardest=0.2"], "loss.hardest", "topk or dice_topk"),
        (["loss.boundary_warm_up=false"], "loss.boundary_warm_up", "counts only with loss.boundary; set that too"),
        (["loss.tube_weight=2"], "loss.tube_weight", "counts only with loss.tubes"),
        (["sample.batch=3", "train.accumulate=2"], "train.accumulate", "expected a divisor of sample.batch"),
        (["train.device=cpu", "train.amp=fp16"], "train.amp", "set train.amp=auto"),
        (["infer.device=cpu", "infer.amp=fp16"], "infer.amp", "set infer.amp=auto"),
        (["loss.class_weights={a: 1e300}"], "loss.class_weights", "from 1e-06 to 1000000.0"),
        (["loss.class_weights={a: 0}"], "loss.class_weights", "from 1e-06 to 1000000.0"),
        (["net.head_weights=[1, 1e-9]"], "net.head_weights", "from 1e-06 to 1000000.0"),
        (["train.fold=3", "data.folds=3"], "train.fold", "0 to 2"),
    ],
)
def test_contradictions_are_refused_with_key_and_cure(argv: list[str], key: str, cure: str) -> None:
    with pytest.raises(UserError) as caught:
        load(argv)
    assert str(caught.value).startswith(f"{key}: ")
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["head.kind=regions", LUNGS, REGION, "loss.class_weights.all=2"],
        ["head.kind=sigmoid", "loss.name=bce_dice"],
        *([f"head.kind={kind}", f"loss.name={name}"] for kind in ("softmax", "sigmoid") for name in ("dice", "focal")),
        ["loss.name=ce", LUNGS, "loss.class_weights={background: 0.2, LungLeft: 2}"],
        ["loss.class_weights.Anything=2"],
        ["loss.class_weights=auto", LUNGS, "loss.tubes=[LungLeft]"],
        [LUNGS, "augment.mirror=[x]", "labels.swap=[[LungLeft, LungRight]]"],
        [LUNGS, "augment.mirror=[y, z]"],
        ["labels={Heart: 1, Liver: 2}", "augment.mirror=[x]"],
        ["train.steps=50", "train.minutes=5"],
        ["train.fold=all"],
        ["loss.gamma=null", "loss.smooth=1e-5"],  # as they are without being given
        ["loss.name=focal", "loss.gamma=5", "loss.alpha=0.7"],
        ["head.kind=sigmoid", "loss.alpha=0.3", "loss.dice_over=all"],
        ["loss.name=structure", "loss.box_vox=31", "loss.smooth=1"],
        ["loss.boundary=0.1", "loss.boundary_warm_up=false", "loss.tubes=[cord]", "loss.tube_weight=2"],
        ["sample.batch=4", "train.accumulate=2", "train.amp=fp16"],
    ],
)
def test_what_goes_together_is_accepted(argv: list[str]) -> None:
    load(argv)


def test_classes_of_a_data_set_are_checked_like_those_of_the_config() -> None:
    config = load(["augment.mirror=[x]"])
    check_labels(config, Labels({"Kidney_L": (1,), "Kidney_R": (2,)}, swap=(("Kidney_L", "Kidney_R"),)))
    with pytest.raises(UserError, match="Kidney_L, Kidney_R"):
        check_labels(config, Labels({"Kidney_L": (1,), "Kidney_R": (2,)}))


@pytest.mark.parametrize(
    "name",
    [
        *("LeftParotid", "parotid left", "PAROTID_RIGHT", "lung_upper_lobe_left", "lungleft", "leftlung"),
        *("Lung_L", "R-kidney", "lungR", "L", "kidney right 2"),
    ],
)
def test_a_name_that_says_a_side_is_noticed(name: str) -> None:
    assert names_side(name)


@pytest.mark.parametrize(
    "name", ["Mandible", "bright", "cleft", "vertebra_L1", "L5", "Brainstem", "SpinalCord", "upright", "liver", "", "_"]
)
def test_other_names_say_no_side(name: str) -> None:
    assert not names_side(name)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("RightParotid", "LeftParotid"),
        ("lung_left", "lung_right"),
        ("LUNGLEFT", "LUNGRIGHT"),
        ("Kidney_L", "Kidney_R"),
        ("R kidney", "L kidney"),
        ("l-lung", "r-lung"),
        ("KidneyR", "KidneyL"),
        ("Liver", "Liver"),
    ],
)
def test_the_other_side_has_left_and_right_exchanged(name: str, other: str) -> None:
    assert other_side(name) == other
