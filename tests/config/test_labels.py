"""The labels section: classes beside its own keys."""

import pytest

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.labels import Labels, Region


def labels_of(*words: str) -> Labels:
    section = load(list(words)).labels
    assert section is not None
    return section.build()


def test_every_part_arrives_in_the_labels() -> None:
    found = labels_of(
        "labels={LungRight: 1, LungLeft: 2, tumour: [5, 38], background: [0, 9], ignore: 255}",
        "labels.swap=[[LungLeft, LungRight]]",
        "labels.regions={lungs: {classes: [LungLeft, LungRight], write: LungLeft}}",
    )
    assert found == Labels(
        values={"LungRight": (1,), "LungLeft": (2,), "tumour": (5, 38)},
        regions=(Region("lungs", ("LungLeft", "LungRight"), "LungLeft"),),
        ignore=255,
        swap=(("LungLeft", "LungRight"),),
        background=(0, 9),
    )


def test_classes_keep_the_order_in_which_they_are_written() -> None:
    assert labels_of("labels={zebra: 3, ant: 1, 'two words': 2}").names == ("zebra", "ant", "two words")


@pytest.mark.parametrize("name", ["copy", "json", "build", "model_fields", "name", "values"])
def test_a_class_may_be_called_as_python_things_are(name: str) -> None:
    assert labels_of(f"labels.{name}=1").names == (name,)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{a: 1, b: [2, 1]}", "value 1 belongs to both a and b"),
        ("{a: 0}", "value 0 belongs to both background and a"),
        ("{a: 1, ignore: 1}", "value 1 belongs to both a and ignore"),
        ("{ignore: 255}", "0 foreground classes"),
        ("{a: []}", "labels.a: no value"),
        ("{a: 1, swap: [[a, b]]}", "names 'b'"),
        ("{a: 1, regions: {r: {classes: [a], write: b}}}", "names 'b'"),
        ("{a: 1, regions: {r: {classes: [a]}}}", "labels.regions: found"),
        ("{a: 1, ingore: 255}", "did you mean labels.ignore?"),
        ("{a: 1, Background: 2}", "did you mean labels.background?"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(value: str, words: str) -> None:
    with pytest.raises(UserError, match="labels") as caught:
        load([f"labels={value}"])
    assert words in str(caught.value)
