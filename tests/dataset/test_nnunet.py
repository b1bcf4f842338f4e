from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.description import Description
from pipeline.dataset.layouts import find_cases, read_labels
from pipeline.dataset.nnunet import build_labels
from pipeline.errors import UserError
from pipeline.head import Head
from pipeline.labels import Labels, Region

LABELS = Labels({"liver": (1,)})
PLAIN = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
# The labels of BraTS in nnU-Net's documentation of region-based training.
REGIONS = {
    "labels": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing_tumor": 3},
    "regions_class_order": [1, 2, 3],
}


def test_training_cases_have_labels_and_test_cases_may(plant) -> None:
    paths = ["imagesTr/a_1_0000.nii.gz", "labelsTr/a_1.nii.gz", "imagesTs/c_0000.nii.gz", "imagesTs/d_0000.nii.gz"]
    cases = find_cases(plant([*paths, "labelsTs/d.nii.gz", "imagesTr/._a_1_0000.nii.gz"], PLAIN), LABELS)
    assert [(case.name, case.split, case.image.name) for case in cases] == [
        ("a_1", "train", "a_1_0000.nii.gz"),
        ("c", "test", "c_0000.nii.gz"),
        ("d", "test", "d_0000.nii.gz"),
    ]
    assert [case.label and case.label.parent.name + "/" + case.label.name for case in cases] == [
        "labelsTr/a_1.nii.gz",
        None,
        "labelsTs/d.nii.gz",
    ]


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_files_may_be_of_any_known_format(plant, ending: str) -> None:
    source = plant([f"imagesTr/a_0000{ending}", f"labelsTr/a{ending}"], PLAIN | {"file_ending": ending})
    (case,) = find_cases(source, LABELS)
    assert (case.name, case.label.name) == ("a", f"a{ending}")


def test_validation_cases_patients_and_groups_may_be_added(plant) -> None:
    paths = [f"{folder}/{name}.nii.gz" for name in "ab" for folder in ("imagesTr", "labelsTr")]
    paths = [path.replace(".nii", "_0000.nii") if "images" in path else path for path in paths]
    added = {"validation": ["b"], "patients": {"a": "p"}, "groups": {"a": "g"}, "test": ["imagesTs/z.nii.gz"]}
    cases = find_cases(plant(paths, PLAIN | added), LABELS)
    assert [(case.name, case.split, case.patient, case.group) for case in cases] == [
        ("a", "train", "p", "g"),
        ("b", "validation", "b", ""),
    ]


def test_a_label_without_an_image_is_left_out_with_a_warning(plant, caplog) -> None:
    source = plant(["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz"], PLAIN)
    assert [case.name for case in find_cases(source, LABELS)] == ["a"]
    assert "labelsTr: left out, as" in caplog.text


@pytest.mark.parametrize(
    ("paths", "keys", "sentence"),
    [
        (
            ["imagesTr/a_0000.nii.gz"],
            {"channel_names": {"0": "CT", "1": "PET"}},
            r"dataset\.json: channel_names: 2 input channels \(CT, PET\); one is supported",
        ),
        (["imagesTr/a_0000.nii.gz"], {"channel_names": "CT"}, "channel_names is 'CT'; expected an object"),
        (
            ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"],
            {},
            r"a_0001\.nii\.gz: a second input channel of the case 'a'",
        ),
        (["imagesTr/a.nii.gz"], {}, r"imagesTr/a\.nii\.gz: expected a name that ends .* such as a_0000\.nii\.gz"),
        (["imagesTr/"], {}, "imagesTr: no file of a known format"),
        ([], {}, "imagesTr: no such folder; expected the training CTs there"),
        (
            ["imagesTr/a_0000.nii.gz"],
            {"file_ending": ".png"},
            r"file_ending is '\.png'; expected \.nii\.gz, .*: convert",
        ),
        (["imagesTr/a_0000.nii.gz"], {"file_ending": 1}, "file_ending is 1; expected"),
        (
            ["imagesTr/a_0000.nii.gz", "imagesTs/a_0000.nii.gz"],
            {},
            "the case 'a' is in both imagesTr and imagesTs; rename or remove one",
        ),
    ],
)
def test_what_the_layout_does_not_allow_is_refused(plant, paths, keys, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_cases(plant(paths, PLAIN | keys), LABELS)


def test_lists_are_regions_over_a_class_for_every_value(describe) -> None:
    labels = build_labels(describe(**REGIONS))
    assert labels.values == {"label 1": (1,), "label 2": (2,), "enhancing_tumor": (3,)}
    assert labels.regions == (
        Region("whole_tumor", ("label 1", "label 2", "enhancing_tumor"), "label 1"),
        Region("tumor_core", ("label 2", "enhancing_tumor"), "label 2"),
        Region("enhancing_tumor", ("enhancing_tumor",), "enhancing_tumor"),
    )


def test_the_order_says_what_each_region_writes(describe) -> None:
    order = [2, 2, 1]
    labels = build_labels(describe(labels=REGIONS["labels"], regions_class_order=order))
    assert [labels.values[region.write][0] for region in labels.regions] == order


@given(st.lists(st.tuples(*[st.integers(-9, 9).filter(bool)] * 3), min_size=1), st.permutations([1, 2, 3]))
def test_the_regions_head_decides_as_nnunet_does(logits, order) -> None:
    """nnU-Net goes through the regions and writes each one's value where its sigmoid is above a half."""
    labels = build_labels(Description(Path(), {"labels": REGIONS["labels"], "regions_class_order": order}))
    voxels = torch.tensor(logits, dtype=torch.float64).T.reshape(3, -1, 1, 1)
    expected = np.zeros(voxels.shape[1:], int)
    for channel, value in zip(voxels.numpy(), order, strict=True):
        expected[channel > 0] = value
    np.testing.assert_array_equal(labels.restore(Head("regions", labels).decide(voxels).numpy()), expected)


def test_lists_of_one_value_are_classes_as_nnunet_takes_them(describe) -> None:
    labels = build_labels(describe(labels={"background": 0, "a": [2], "b": 1, "ignore": 3}, regions_class_order=[1, 2]))
    assert labels == Labels({"a": (2,), "b": (1,)}, ignore=3)


def test_regions_and_an_ignore_label_go_together(plant) -> None:
    labels = read_labels(plant([], {"labels": REGIONS["labels"] | {"ignore": 4}, "regions_class_order": [1, 2, 3]}))
    assert labels is not None
    assert labels.ignore == 4
    assert [region.name for region in labels.regions] == ["whole_tumor", "tumor_core", "enhancing_tumor"]


@pytest.mark.parametrize(
    ("labels", "order", "sentence"),
    [
        ({"a": [1, 2], "b": 2}, [1], r"regions_class_order has 1 values for 2 regions \(a, b\)"),
        ({"a": [1, 2], "b": 2}, None, "regions_class_order has 0 values for 2 regions"),
        ({"a": [1, 2], "b": 2}, [1, 7], r"regions_class_order has 7, which stands in no region; .*\[1, 2\]"),
        ({"a": [1, 2], "b": 2}, ["1", "2"], "regions_class_order is .*; expected a list of integers"),
        ({"background": 0, "a": [0, 1]}, [1], "value 0 belongs to both background and label 0"),
        ({"a": [1, 2], "b": 2, "ignore": [3, 4]}, [1, 2], r"labels\.ignore: 2 values; give one integer"),
    ],
)
def test_regions_that_do_not_fit_together_are_refused(describe, labels, order, sentence: str) -> None:
    keys = {"labels": labels} | ({} if order is None else {"regions_class_order": order})
    with pytest.raises(UserError, match=sentence):
        build_labels(describe(channel_names={"0": "CT"}, **keys))
