"""Other classes without preparing again, and volumes and labels at the edge of what there is."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.stages.data import training_cases
from pipeline.stages.prepare import run
from pipeline.store.catalogue import Catalogue
from pipeline.store.reader import open_store

ALL = "labels={liver: 1, spleen: 2, tumour: 3}"
MERGED = "labels={organ: [1, 2], tumour: 3}"
SUBSET = "labels={liver: 1, background: [0, 2, 3]}"


@pytest.fixture
def three_classes(data_set) -> np.ndarray:
    """Give the cases a and b labels of three values; return them on the training grid, which has half the slices."""
    label = np.zeros_like(data_set.label)
    label[1:5, 2:8, 2:8], label[6:9, 2:8, 2:8], label[10:13, 2:8, 2:8] = 1, 2, 3
    for name in "ab":
        data_set.add(name, label=label)
    return label[..., ::2]


# Other classes


@pytest.mark.parametrize(
    ("override", "names", "table"),
    [
        (ALL, ("liver", "spleen", "tumour"), [0, 1, 2, 3]),
        (MERGED, ("organ", "tumour"), [0, 1, 1, 2]),
        (SUBSET, ("liver",), [0, 1, 0, 0]),
        ("labels={tumour: 3, rest: [1, 2]}", ("tumour", "rest"), [0, 2, 2, 1]),
        ("labels={liver: 1, ignore: 2, background: [0, 3]}", ("liver",), [0, 1, 255, 0]),
    ],
)
def test_training_takes_its_classes_from_those_that_were_prepared(
    configure, three_classes, override: str, names: tuple[str, ...], table: list[int]
) -> None:
    run(configure(ALL))
    labels, _, cases = training_cases(configure(override))
    assert labels.names == names
    expected = np.array(table, np.uint8)[three_classes]
    for case in cases:
        np.testing.assert_array_equal(case.read((0, 0, 0), case.grid.shape_vox)[1], expected)
        assert case.counts == {int(v): int((expected == v).sum()) for v in np.unique(expected)}
        for index in range(1, len(names) + 1):
            assert len(case.foreground(index)) == (expected == index).sum()


@pytest.mark.parametrize("override", [MERGED, SUBSET])
def test_prepare_keeps_what_stands_where_the_classes_can_be_taken_from_it(
    configure, three_classes, store: Path, override: str, caplog, data_set
) -> None:
    run(configure(ALL))
    data_set.add("c", label=data_set.label)
    with caplog.at_level("INFO"):
        outcome = run(configure(override))
    assert "its cases are kept as they are" in caplog.text
    assert (outcome.done, outcome.skipped) == (("c",), ("a", "b"))
    assert Catalogue.read(store).labels.names == ("liver", "spleen", "tumour")
    assert run(configure(ALL)).done == ()
    assert len(training_cases(configure(override))[2]) == 3


def test_training_without_classes_in_its_config_takes_those_that_the_data_set_names_now(
    configure, three_classes, data_set
) -> None:
    data_set.describe(labels={"liver": 1, "spleen": 2, "tumour": 3}, test=["t"])
    run(configure())
    data_set.describe(labels={"organ": [1, 2], "tumour": 3}, test=["t"])
    assert run(configure()).done == ("a", "b")
    labels, _, (case, _) = training_cases(configure())
    assert labels.names == ("organ", "tumour")
    assert case.counts[1] == np.isin(three_classes, (1, 2)).sum()


def test_the_table_of_prepare_counts_the_classes_of_the_config(configure, three_classes, capsys) -> None:
    run(configure(ALL))
    capsys.readouterr()
    run(configure(SUBSET))
    assert "1 of 1" in capsys.readouterr().out


def test_classes_that_were_not_prepared_are_refused_by_training_and_made_by_prepare(configure, three_classes) -> None:
    run(configure(SUBSET))
    with pytest.raises(UserError, match=r"values \[0, 2, 3\] were prepared as one .* run prepare again"):
        training_cases(configure(ALL))
    assert run(configure(ALL)).done == ("a", "b")
    assert training_cases(configure(ALL))[0].names == ("liver", "spleen", "tumour")


def test_another_spacing_makes_every_case_again_with_the_classes_of_the_config(configure, three_classes, store) -> None:
    run(configure(ALL))
    assert run(configure(MERGED, "prepare.spacing_mm=[2,2,5]")).done == ("a", "b")
    assert Catalogue.read(store).labels.names == ("organ", "tumour")


# Masks of structures: found by name


def test_prepare_keeps_some_of_the_masks_it_made(configure, tmp_path: Path, data_set, store: Path) -> None:
    for case in "ab":
        folder = tmp_path / "masks" / case
        (folder / "segmentations").mkdir(parents=True)
        nib.save(nib.Nifti1Image(data_set.image, data_set.affine), folder / "ct.nii.gz")
        for structure, value in (("liver", 1), ("lung", 3)):
            mask = (data_set.label == value).astype(np.uint8)
            nib.save(nib.Nifti1Image(mask, data_set.affine), folder / "segmentations" / f"{structure}.nii.gz")
    source, both = f"data.source={tmp_path / 'masks'}", "labels={liver: 1, lung: 2}"
    assert run(configure(source, both)).done == ("a", "b")
    assert run(configure(source, "labels={liver: 1, background: [0, 2]}")).done == ()
    assert run(configure(source, both, "data.overlap=[liver, lung]")).done == ("a", "b")
    with pytest.raises(UserError, match=r"the mask of lung was prepared as \[2\]"):
        training_cases(configure(source, "labels={lung: 1, liver: 2}"))
    assert run(configure(source, "labels={lung: 1, liver: 2}")).done == ("a", "b")


# The data set itself says what validates


def test_validation_cases_are_prepared(configure, data_set, tmp_path: Path, store: Path) -> None:
    rows = ["case,image,label,split"]
    for name, split in zip("abt", ("train", "validation", "test"), strict=True):
        rows.append(f"{name},{data_set.folder}/images/{name}.nii.gz,{data_set.folder}/labels/{name}.nii.gz,{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    labels = "labels={liver: 1, lung: [2, 3]}"
    assert run(configure(f"data.source={tmp_path / 'cases.csv'}", labels)).done == ("a", "b")
    assert [case.name for case in open_store(store)] == ["a", "b"]


# Edges


def prepared(configure, store: Path):
    assert run(configure()).exit_code == 0
    return next(case for case in open_store(store) if case.name == "b")


@pytest.mark.parametrize("compress", ["none", "lz4"])
def test_a_volume_of_one_slice(configure, data_set, store: Path, compress: str) -> None:
    data_set.add("b", image=data_set.image[..., 4:5], label=data_set.label[..., 4:5])
    run(configure(f"store.compress={compress}"))
    case = open_store(store)[1]
    assert case.grid.shape_vox == (14, 12, 1)
    image, label = case.read((-1, -1, -3), (16, 14, 7))
    np.testing.assert_array_equal(image[1:-1, 1:-1, 3], data_set.image[..., 4])
    assert (image[..., [0, 1, 2, 4, 5, 6]] == -1024).all()
    assert set(np.unique(label[..., 3])) == {0, 1, 2}


def test_a_label_at_the_border(configure, data_set, store: Path) -> None:
    label = np.zeros_like(data_set.label)
    label[0, 0, :2], label[-1, -1, -2:] = 1, 2
    data_set.add("b", label=label)
    case = prepared(configure, store)
    last = tuple(size - 1 for size in case.grid.shape_vox)
    assert (case.foreground(1).tolist(), case.foreground(2).tolist()) == ([[0, 0, 0]], [list(last)])
    assert case.read(last, (2, 2, 2))[1][0, 0, 0] == 2


def test_a_case_all_foreground(configure, data_set, store: Path) -> None:
    data_set.add("b", label=np.ones_like(data_set.label))
    case = prepared(configure, store)
    voxels = int(np.prod(case.grid.shape_vox))
    assert dict(case.counts) == {1: voxels}
    assert len(case.foreground(1)) == voxels


def test_a_class_in_one_case_only(configure, data_set, store: Path) -> None:
    data_set.add("a", label=np.where(data_set.label == 3, 0, data_set.label).astype(np.uint8))
    case = prepared(configure, store)
    assert 2 in case.counts
    assert 2 not in open_store(store)[0].counts
    assert open_store(store)[0].foreground(2).shape == (0, 3)


@pytest.mark.parametrize("compress", ["none", "lz4"])
def test_a_patch_larger_than_the_volume(configure, data_set, store: Path, compress: str) -> None:
    run(configure(f"store.compress={compress}"))
    case = open_store(store)[0]
    image, label = case.read((-5, -5, -5), (40, 40, 40))
    inside = tuple(slice(5, 5 + size) for size in case.grid.shape_vox)
    whole = case.read((0, 0, 0), case.grid.shape_vox)
    for found, expected, outside in zip((image, label), whole, (-1024, 0), strict=True):
        np.testing.assert_array_equal(found[inside], expected)
        found[inside] = outside
        assert (found == outside).all()


def test_both_layouts_hold_the_same_voxels(configure, store: Path) -> None:
    run(configure())
    plain = [case.read((0, 0, 0), case.grid.shape_vox) for case in open_store(store)]
    assert run(configure("store.compress=lz4")).done == ("a", "b")
    for case, arrays in zip(open_store(store), plain, strict=True):
        facts = json.loads((case.folder / "case.json").read_text())
        assert set(facts["arrays"]) == {"image.lz4", "label.lz4", "foreground.npy"}
        for found, expected in zip(case.read((0, 0, 0), case.grid.shape_vox), arrays, strict=True):
            np.testing.assert_array_equal(found, expected)
