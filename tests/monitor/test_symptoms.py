"""The rules on records made by hand; `tests/sick` has the diseases themselves."""

from dataclasses import replace
from math import inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.train import TrainSection
from pipeline.monitor.checkup import Checkup, TrainingCase
from pipeline.monitor.symptoms import cases, data, gradients, loss, outputs, validation
from pipeline.monitor.symptoms.diagnose import CHECKUP_RULES, EXPLAINS, FIRST_STEPS, STEP_RULES, blame, diagnose
from pipeline.monitor.symptoms.window import STEPS, USUAL_LR
from pipeline.monitor.vitals import Vitals
from tests.monitor.made import FACTS, WELL, names, records, two, with_last

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
        with_last(records(3), strange_labels=(38.0,)),
        with_last(records(3), strange_labels=(-1.0, 2.5), loss=nan, parts={}, logits_min=nan, logits_max=nan),
    ],
    data.LABELS_SCALED: [with_last(records(3), strange_labels=(5 / 255,))],
    data.NOT_HU: [records(image_std=0.01)],
    data.STARVED: [records(wait_s=0.06)],
    loss.NEGATIVE_LOSS: [with_last(records(3), loss=-0.2), with_last(records(3), parts={"dice": -0.5})],
    loss.NON_FINITE_LOSS: [
        with_last(records(3), loss=inf),
        with_last(records(3), loss=nan, grad_norm=nan, image_std=nan),
    ],
    loss.LR_TOO_HIGH: [
        records(update_share=0.6),
        records(parts={"ce": 2.1 * log(3)}, update_share=0.1),
        records(parts={}, logits_max=1500.0, update_share=0.1),
        [*records(55, update_share=0.9), replace(WELL, step=56, loss=nan)],
    ],
    gradients.EXPLODING: [records(grad_norm=500.0), [*records(grad_norm=500.0), replace(WELL, step=61, loss=nan)]],
    gradients.VANISHING: [records(grad_norm=1e-9)],
    gradients.NON_FINITE: [
        with_last(records(3), grad_norm=nan, ended=True),
        [*records(43), *(replace(WELL, step=s, grad_norm=inf, ended=s == 60) for s in range(44, 61))],
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "history"), [(name, history) for name, histories in SICK_RECORDS.items() for history in histories]
)
def test_a_disease_is_named_alone(name: str, history: list[Vitals]) -> None:
    assert names(history) == [name]


def test_facts_alone_can_be_a_disease() -> None:
    assert names(records(1), replace(FACTS, batch_norm=True, batch=1)) == [gradients.BATCH_NORM]
    assert names(records(1), replace(FACTS, not_hu={"a": "8-bit picture"})) == [data.NOT_HU]
    assert names(records(1), replace(FACTS, batch_norm=True)) == []


def test_one_case_of_many_that_is_not_hu_is_advice_and_mutes_nothing() -> None:
    facts = replace(FACTS, not_hu={"a": "8-bit picture"}, cases=1000)
    alarms = two(dice={"left": 0.3, "right": 0.3})
    not_hu, far = diagnose(records(), facts, alarms)
    assert (not_hu.name, not_hu.fatal, far.name) == (data.NOT_HU, False, validation.FAR_FALSE_ALARMS)
    assert "1 of 1000 training cases do not look like HU" in not_hu.evidence
    (not_hu,) = diagnose(records(), replace(facts, cases=10), alarms)
    assert (not_hu.name, not_hu.fatal) == (data.NOT_HU, True)


HEALTHY = {
    "as usual": records(),
    "at the loss of ignorance, of both signs": records(parts={"ce": log(3)}, logits_min=-0.1, logits_max=0.1),
    "all background from the start": records(predicted={"background": 1.0}, dice={"left": 0.0}),
    "of one sign while the loss falls": records(logits_min=-3.0, logits_max=-0.1),
    "of one sign before the weights have moved": records(
        logits_min=-0.1, logits_max=-0.02, parts={"ce": log(3)}, update_share=1e-4
    ),
    "float16 leaves a step out": with_last(records(), grad_norm=inf),
    "one step with a large gradient": with_last(records(), grad_norm=1e4),
    "one step that changes much": with_last(records(), update_share=0.9),
    "waiting in the first steps": [replace(r, wait_s=0.09 if r.step <= 10 else 0.01) for r in records()],
    "one long wait": [replace(r, wait_s=8.0, step_s=8.1) if r.step == 30 else r for r in records()],
    "waiting when taken up again": [
        replace(r, since_start=r.step - 20, wait_s=0.09) if r.step <= 30 else r for r in records()[20:]
    ],
    "probabilities of weights that have not moved": records(logits_min=0.01, logits_max=0.02, update_share=1e-5),
    "float16 leaves out the last step of a run": [replace(r, grad_norm=inf) for r in records(3)],
    "all has been learnt": records(loss=0.01, grad_norm=1e-8, parts={"ce": 0.01}),
    "unsure at the beginning": records(3, parts={"ce": 5.0}, logits_max=4000.0, grad_norm=300.0),
}


@pytest.mark.parametrize("history", HEALTHY.values(), ids=HEALTHY)
def test_what_healthy_runs_do_is_no_disease(history: list[Vitals]) -> None:
    assert names(history, checkups=two()) == []


def test_a_sentence_has_name_evidence_and_cure() -> None:
    (finding,) = diagnose(records(logits_min=0.0), FACTS)
    assert str(finding) == (
        "an ending that lets only one sign through: the smallest logit is exactly 0 in steps 11 to 60, logits from 0 "
        "to 3; take the final activation off: net.strip_final_activation=true, or delete it from the network's last "
        "line."
    )


def test_a_loop_whose_workers_come_one_after_the_other_starves_in_bursts() -> None:
    # Four workers of 8 s a batch: three batches are there, and the fourth step waits.
    bursts = [replace(r, wait_s=6.0, step_s=6.5) if r.step % 4 == 0 else replace(r, wait_s=0.0) for r in records()]
    (finding,) = diagnose(bursts, FACTS)
    assert (finding.name, finding.fatal) == (data.STARVED, False)
    assert finding.evidence.endswith("% of the time went by waiting for batches in steps 11 to 60")


def test_steps_of_a_process_that_has_just_begun_are_not_counted_as_starved() -> None:
    since = [replace(r, wait_s=0.09, since_start=r.step) for r in records(60)]
    assert names(since[:49]) == [] and names(since[:50]) == [data.STARVED]
    again = [replace(r, since_start=r.step - 5) for r in since]
    assert names(again[5:54]) == [] and names(again[5:]) == [data.STARVED]


def test_mixed_precision_is_blamed_where_it_is_on_only() -> None:
    for changes in ({"loss": nan}, {"grad_norm": nan, "ended": True}):
        for amp, expected in ((None, False), ("float16", True)):
            (finding,) = diagnose(with_last(records(3), **changes), replace(FACTS, amp=amp))
            assert ("train.amp=off (it was float16)" in finding.cure) is expected


def test_the_rate_is_not_blamed_before_it_has_changed_a_weight() -> None:
    for changes in ({"loss": nan}, {"grad_norm": nan, "ended": True}):
        (finding,) = diagnose([replace(WELL, step=1, **changes)], FACTS)
        assert "it is not the rate: look at the images and labels of these cases" in finding.cure
        assert "network (doctor net), and at the weights of the loss (loss.class_weights)" in finding.cure
        assert "train.lr" not in finding.cure and "start_from" not in finding.cure
        (finding,) = diagnose([replace(WELL, step=1, **changes)], replace(FACTS, warm=True))
        assert "the weights of train.start_from" in finding.cure
        (finding,) = diagnose(with_last(records(2), **changes), FACTS)
        assert "take train.lr=0.0001 or less" in finding.cure


@pytest.mark.parametrize(
    ("lr", "optimiser", "told"),
    [
        (10.0, "adamw", "take train.lr=0.003 or less (it was 10; 0.003 is usual with adamw)"),
        (0.01, "adamw", "take train.lr=0.001 or less (it was 0.01; 0.003 is usual with adamw)"),
        (10.0, "sgd", "take train.lr=0.01 or less (it was 10; 0.01 is usual with sgd)"),
    ],
)
def test_a_rate_that_is_too_high_is_brought_to_what_is_usual(lr: float, optimiser: str, told: str) -> None:
    (finding,) = diagnose(records(update_share=0.6), replace(FACTS, lr=lr, optimiser=optimiser))
    assert finding.cure == told


def test_the_usual_rates_are_those_of_the_config() -> None:
    fields = TrainSection.model_fields
    assert fields["lr"].default == USUAL_LR[fields["optimiser"].default]
    assert "with optimiser=sgd usually 1e-2" in str(fields["lr"].description) and USUAL_LR["sgd"] == 1e-2


def test_numbers_of_records_are_not_called_steps() -> None:
    thinned = [replace(WELL, step=10 * step, grad_norm=500.0 if step > 30 else 1.0) for step in range(1, 61)]
    assert "in 30 of 50 records of steps 110 to 600" in diagnose(thinned, FACTS)[0].evidence
    negative = [replace(WELL, step=10 * step, loss=-0.2) for step in range(1, 61)]
    assert "50 of 50 records of steps 110 to 600 are below 0" in diagnose(negative, FACTS)[0].evidence


def test_an_end_is_blamed_on_what_the_first_steps_show() -> None:
    scores = two(predicted_share={"background": 1.0}, dice={"left": 0.0}, near_dice={})
    starved = records(wait_s=0.06)
    assert blame(diagnose(starved, FACTS, scores)) is None
    (blamed,) = [blame(diagnose(with_last(starved, grad_norm=nan, ended=True), FACTS, scores))]
    assert blamed is not None and blamed.name == gradients.NON_FINITE
    assert set(SICK_RECORDS) | {gradients.BATCH_NORM} == FIRST_STEPS


def test_every_rule_has_its_own_name_and_only_names_of_rules_explain() -> None:
    constants = {
        value for module in (cases, data, gradients, loss, outputs, validation)
        for key, value in vars(module).items() if key.isupper() and isinstance(value, str) and key != "CURE"
    }  # fmt: skip
    assert len(constants) == len(STEP_RULES) + len(CHECKUP_RULES)
    assert len(FIRST_STEPS) == len(STEP_RULES) and constants > FIRST_STEPS
    assert set(EXPLAINS) | set().union(*EXPLAINS.values()) <= constants
    assert all(name not in explained for name, explained in EXPLAINS.items())


NUMBER = st.floats(allow_nan=True, allow_infinity=True)
SECONDS = st.floats(0, 1e6)
ANY_VITALS = st.builds(
    Vitals, step=st.integers(1, 500), loss=NUMBER, lr=NUMBER, grad_norm=NUMBER, logits_min=NUMBER, logits_max=NUMBER,
    drawn=st.just({}), predicted=st.just({}), wait_s=SECONDS, step_s=SECONDS, memory_bytes=st.just(0),
    cases=st.just(("a",)), parts=st.dictionaries(st.sampled_from(["ce", "dice"]), NUMBER),
    strange_labels=st.lists(NUMBER, max_size=3).map(tuple), image_std=st.none() | NUMBER,
    update_share=st.none() | NUMBER, since_start=st.none() | st.integers(1, 500), ended=st.booleans(),
)  # fmt: skip
SHARE = st.floats(0, 1) | st.just(nan)
BY_TARGET = st.dictionaries(st.sampled_from(["left", "right", "background"]), SHARE)
ANY_CHECKUP = st.builds(
    Checkup, step=st.integers(1, 500), dice=BY_TARGET, near_dice=BY_TARGET, partner_dice=BY_TARGET,
    truth_share=BY_TARGET, predicted_share=BY_TARGET, cases=BY_TARGET, training_dice=BY_TARGET,
    training=st.dictionaries(
        st.text(max_size=3),
        st.builds(TrainingCase, patches=st.integers(0, 50), loss=NUMBER, dice=st.none() | SHARE,
                  measured=st.integers(0, 50)),
        max_size=6,
    ),
    present_dice=BY_TARGET,
)  # fmt: skip


@given(st.lists(ANY_VITALS, max_size=3), st.sampled_from([1, STEPS]), st.lists(ANY_CHECKUP, max_size=3))
def test_no_record_makes_a_rule_fail(history: list[Vitals], times: int, checkups: list[Checkup]) -> None:
    diagnose(history * times, FACTS, checkups)
    diagnose(history * times, replace(FACTS, entropy=None, head="sigmoid", classes=(), partners={}), checkups)


@given(st.lists(ANY_VITALS, min_size=1, max_size=4), st.integers(0, 100))
def test_a_run_is_as_ill_as_its_last_records_are(history: list[Vitals], dropped: int) -> None:
    long = (history * (150 // len(history) + 1))[:150]
    assert names(long) == names(long[dropped:])
