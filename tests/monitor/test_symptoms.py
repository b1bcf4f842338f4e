"""The rules on records made by hand; `tests/sick` has the diseases themselves."""

from dataclasses import replace
from math import inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.facts import RunFacts
from pipeline.monitor.symptoms import cases, data, gradients, loss, outputs, validation
from pipeline.monitor.symptoms.diagnose import EXPLAINS, RULES, diagnose
from pipeline.monitor.symptoms.window import STEPS
from pipeline.monitor.vitals import Vitals

FACTS = RunFacts(
    network="UNet3d", head="softmax", channels=3, classes=("left", "right"), targets=("left", "right"),
    partners={"left": "right", "right": "left"}, entropy="ce", lr=1e-3, warmup_steps=5, batch=2, batch_norm=False,
    not_hu={},
)  # fmt: skip
WELL = Vitals(
    step=1, loss=0.8, lr=1e-3, grad_norm=0.5, logits_min=-2.0, logits_max=3.0, drawn={"left": 1, "right": 1},
    predicted={}, wait_s=0.01, step_s=0.1, memory_bytes=0, cases=("a", "b"), parts={"dice": 0.9, "ce": 0.7},
    losses=(0.7, 0.9), image_std=1.0, update_share=2e-3,
)  # fmt: skip
CHECKUP = Checkup(
    step=300, dice={"left": 0.7, "right": 0.6}, near_dice={"left": 0.75, "right": 0.65},
    partner_dice={"left": 0.0, "right": 0.0}, truth_share={"background": 0.98, "left": 0.01, "right": 0.01},
    predicted_share={"background": 0.97, "left": 0.02, "right": 0.01}, cases={"z": 0.65},
    training_dice={"left": 0.8, "right": 0.7}, training={},
)  # fmt: skip


def records(count: int = 60, **changes) -> list[Vitals]:
    return [replace(WELL, step=step, **changes) for step in range(1, count + 1)]


def names(history, facts=FACTS, checkups=()) -> list[str]:
    return [finding.name for finding in diagnose(history, facts, checkups)]


def two(**changes) -> list[Checkup]:
    return [replace(CHECKUP, step=250, **changes), replace(CHECKUP, **changes)]


def with_(records_before: list[Vitals], **changes) -> list[Vitals]:
    """Return records whose last one is changed."""
    return [*records_before[:-1], replace(records_before[-1], **changes)]


SICK_RECORDS = {
    outputs.ONE_SIGN: [
        records(logits_min=0.0),
        records(logits_max=0.0),
        records(logits_min=-0.01, logits_max=1.0),
        records(logits_min=0.1, logits_max=2.0, parts={"ce": 1.005 * log(3)}),
        records(logits_min=-2.0, logits_max=-0.5, parts={"ce": 0.995 * log(3)}),
        records(logits_min=-0.01, logits_max=0.009, parts={"ce": log(3)}),
    ],
    outputs.PROBABILITIES: [records(logits_min=0.2, logits_max=0.9), records(logits_min=1e-9, logits_max=1.0)],
    data.LABELS_OUTSIDE: [
        with_(records(3), strange_labels=(38.0,)),
        with_(records(3), strange_labels=(-1.0, 2.5), loss=nan, parts={}, logits_min=nan, logits_max=nan),
    ],
    data.LABELS_SCALED: [with_(records(3), strange_labels=(5 / 255,))],
    data.NOT_HU: [records(image_std=0.01)],
    data.STARVED: [records(wait_s=0.06)],
    loss.NEGATIVE_LOSS: [with_(records(3), loss=-0.2), with_(records(3), parts={"dice": -0.5})],
    loss.NON_FINITE_LOSS: [with_(records(3), loss=inf), with_(records(3), loss=nan, grad_norm=nan, image_std=nan)],
    loss.LR_TOO_HIGH: [
        records(update_share=0.6),
        records(parts={"ce": 2.1 * log(3)}, update_share=0.1),
        records(parts={}, logits_max=1500.0, update_share=0.1),
        [*records(55, update_share=0.9), replace(WELL, step=56, loss=nan)],
    ],
    gradients.EXPLODING: [records(grad_norm=500.0), [*records(grad_norm=500.0), replace(WELL, step=61, loss=nan)]],
    gradients.VANISHING: [records(grad_norm=1e-9)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "history"), [(name, history) for name, histories in SICK_RECORDS.items() for history in histories]
)
def test_a_disease_is_named_alone(name: str, history: list[Vitals]) -> None:
    assert names(history) == [name]


SICK_CHECKUPS = {
    validation.ALL_BACKGROUND: two(predicted_share={"background": 1.0, "left": 0.0, "right": 0.0}, dice={"left": 0.0}),
    validation.NEVER_PREDICTED: two(
        predicted_share={"background": 0.98, "left": 0.02, "right": 0.0},
        dice={"left": 0.7, "right": 0.0},
        near_dice={"left": 0.7, "right": 0.0},
    ),
    validation.FAR_FALSE_ALARMS: two(dice={"left": 0.3, "right": 0.3}),
    validation.SWAPPED: two(dice={"left": 0.1, "right": 0.1}, partner_dice={"left": 0.7, "right": 0.6}),
    validation.OVER_FITTING: [
        replace(CHECKUP, step=250, dice={"left": 0.5, "right": 0.5}),
        replace(CHECKUP, dice={"left": 0.4, "right": 0.5}, near_dice={"left": 0.4, "right": 0.5}),
    ],
}


@pytest.mark.parametrize(("name", "checkups"), SICK_CHECKUPS.items())
def test_a_disease_of_validations_is_named_alone_and_not_at_the_first(name: str, checkups: list[Checkup]) -> None:
    history = records()
    if name == validation.SWAPPED:
        checkups = [replace(checkup, near_dice={"left": 0.1, "right": 0.1}) for checkup in checkups]
    assert names(history, checkups=checkups) == [name]
    assert names(history, checkups=checkups[-1:]) == []


def test_facts_alone_can_be_a_disease() -> None:
    assert names(records(1), replace(FACTS, batch_norm=True, batch=1)) == [gradients.BATCH_NORM]
    assert names(records(1), replace(FACTS, not_hu={"a": "8-bit picture"})) == [data.NOT_HU]
    assert names(records(1), replace(FACTS, batch_norm=True)) == []


def test_a_rate_too_low_is_told_where_the_weights_stand_still_and_the_score_is_poor() -> None:
    slow, poor = records(update_share=1e-6), two(dice={"left": 0.1, "right": 0.1}, near_dice={"left": 0.1})
    assert names(slow, checkups=poor) == [validation.LR_TOO_LOW]
    assert names(slow, checkups=two()) == []
    assert names([replace(record, lr=1e-6) for record in slow], checkups=poor) == []


HEALTHY = {
    "as usual": records(),
    "at the loss of ignorance, of both signs": records(parts={"ce": log(3)}, logits_min=-0.1, logits_max=0.1),
    "all background from the start": records(predicted={"background": 1.0}, dice={"left": 0.0}),
    "of one sign while the loss falls": records(logits_min=-3.0, logits_max=-0.1),
    "of one sign before the weights have moved": records(
        logits_min=-0.1, logits_max=-0.02, parts={"ce": log(3)}, update_share=1e-4
    ),
    "float16 leaves a step out": with_(records(), grad_norm=inf),
    "one step with a large gradient": with_(records(), grad_norm=1e4),
    "one step that changes much": with_(records(), update_share=0.9),
    "waiting in the first steps": [replace(r, wait_s=0.09 if r.step <= 10 else 0.01) for r in records()],
    "all has been learnt": records(loss=0.01, grad_norm=1e-8, parts={"ce": 0.01}),
    "unsure at the beginning": records(3, parts={"ce": 5.0}, logits_max=4000.0, grad_norm=300.0),
}


@pytest.mark.parametrize("history", HEALTHY.values(), ids=HEALTHY)
def test_what_healthy_runs_do_is_no_disease(history: list[Vitals]) -> None:
    assert names(history, checkups=two()) == []


def test_scores_of_the_first_200_steps_are_no_disease() -> None:
    nothing = two(predicted_share={"background": 1.0, "left": 0.0, "right": 0.0}, dice={"left": 0.0}, near_dice={})
    assert names(records(), checkups=[replace(checkup, step=checkup.step - 200) for checkup in nothing]) == []


def test_a_gap_that_closes_is_no_disease() -> None:
    closing = [replace(CHECKUP, step=250, dice={"left": 0.2}), replace(CHECKUP, dice={"left": 0.4})]
    assert names(records(), checkups=closing) == []


def training_cases(**odd: TrainingCase) -> dict[str, TrainingCase]:
    usual = {f"case{i}": TrainingCase(20, 0.30 + 0.01 * i, 0.8) for i in range(6)}
    return usual | odd


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (TrainingCase(20, 0.9, 0.2), [cases.STANDS_OUT]),
        (TrainingCase(20, 0.9, None), [cases.STANDS_OUT]),
        (TrainingCase(20, 0.9, 0.7), []),  # hard, and yet it is fitted
        (TrainingCase(20, 0.4, 0.2), []),  # not gross
        (TrainingCase(7, 0.9, 0.2), []),  # too few patches
    ],
)
def test_only_a_gross_outlier_is_told(case: TrainingCase, expected: list[str]) -> None:
    assert names(records(), checkups=two(training=training_cases(odd=case))) == expected


def test_the_worst_cases_are_those_of_the_highest_pooled_loss() -> None:
    early = replace(CHECKUP, training={"a": TrainingCase(10, 9.0, 0.0)})
    late = replace(CHECKUP, training={"a": TrainingCase(10, 0.2, 0.9), "b": TrainingCase(10, 0.4, None)})
    last = replace(CHECKUP, training={"b": TrainingCase(30, 0.1, 0.6), "c": TrainingCase(0, 0.0, None)})
    found = cases.worst_cases([early, late, last])
    assert found == [("a", TrainingCase(10, 0.2, 0.9)), ("b", TrainingCase(40, pytest.approx(0.175), 0.6))]
    assert cases.worst_cases([early, late, last], most=1) == found[:1]
    assert cases.worst_cases([]) == []


def test_of_equal_losses_the_lower_dice_is_worse_and_no_number_is_worst() -> None:
    three = {"a": TrainingCase(1, 0.5, 0.9), "b": TrainingCase(1, 0.5, 0.1), "c": TrainingCase(1, nan, None)}
    assert [name for name, _ in cases.worst_cases([replace(CHECKUP, training=three)])] == ["c", "b", "a"]


def test_a_sentence_has_name_evidence_and_cure() -> None:
    (finding,) = diagnose(records(logits_min=0.0), FACTS)
    assert str(finding) == (
        "an ending that lets only one sign through: the smallest logit is exactly 0 in steps 11 to 60, logits from 0 "
        "to 3; take the final activation off: net.strip_final_activation=true, or delete it from the network's last "
        "line."
    )


def test_every_rule_has_its_own_name_and_only_names_of_rules_explain() -> None:
    constants = {
        value for module in (cases, data, gradients, loss, outputs, validation)
        for key, value in vars(module).items() if key.isupper() and isinstance(value, str) and key != "CURE"
    }  # fmt: skip
    assert len(constants) == len(RULES)
    assert set(EXPLAINS) | set().union(*EXPLAINS.values()) <= constants
    assert all(name not in explained for name, explained in EXPLAINS.items())


NUMBER = st.floats(allow_nan=True, allow_infinity=True)
SECONDS = st.floats(0, 1e6)
ANY_VITALS = st.builds(
    Vitals, step=st.integers(1, 500), loss=NUMBER, lr=NUMBER, grad_norm=NUMBER, logits_min=NUMBER, logits_max=NUMBER,
    drawn=st.just({}), predicted=st.just({}), wait_s=SECONDS, step_s=SECONDS, memory_bytes=st.just(0),
    cases=st.just(("a",)), parts=st.dictionaries(st.sampled_from(["ce", "dice"]), NUMBER),
    strange_labels=st.lists(NUMBER, max_size=3).map(tuple), image_std=st.none() | NUMBER,
    update_share=st.none() | NUMBER,
)  # fmt: skip
SHARE = st.floats(0, 1) | st.just(nan)
BY_TARGET = st.dictionaries(st.sampled_from(["left", "right", "background"]), SHARE)
ANY_CHECKUP = st.builds(
    Checkup, step=st.integers(1, 500), dice=BY_TARGET, near_dice=BY_TARGET, partner_dice=BY_TARGET,
    truth_share=BY_TARGET, predicted_share=BY_TARGET, cases=BY_TARGET, training_dice=BY_TARGET,
    training=st.dictionaries(
        st.text(max_size=3),
        st.builds(TrainingCase, patches=st.integers(0, 50), loss=NUMBER, dice=st.none() | SHARE), max_size=6,
    ),
)  # fmt: skip


@given(st.lists(ANY_VITALS, max_size=3), st.sampled_from([1, STEPS]), st.lists(ANY_CHECKUP, max_size=3))
def test_no_record_makes_a_rule_fail(history: list[Vitals], times: int, checkups: list[Checkup]) -> None:
    diagnose(history * times, FACTS, checkups)
    diagnose(history * times, replace(FACTS, entropy=None, head="sigmoid", classes=(), partners={}), checkups)


@given(st.lists(ANY_VITALS, min_size=1, max_size=4), st.integers(0, 100))
def test_a_run_is_as_ill_as_its_last_records_are(history: list[Vitals], dropped: int) -> None:
    long = (history * (150 // len(history) + 1))[:150]
    assert names(long) == names(long[dropped:])


def test_a_region_that_is_written_as_another_class_is_judged_by_its_dice() -> None:
    facts = replace(FACTS, head="regions", targets=("both", "right"), partners={})
    shares = {"background": 0.97, "left": 0.0, "right": 0.03}  # the region of both sides is written as the right one
    found = two(dice={"both": 0.7, "right": 0.6}, near_dice={"both": 0.7, "right": 0.6}, predicted_share=shares)
    assert names(records(), facts, found) == []
    missed = two(dice={"both": 0.0, "right": 0.6}, near_dice={"both": 0.0, "right": 0.6}, predicted_share=shares)
    assert names(records(), facts, missed) == [validation.NEVER_PREDICTED]
