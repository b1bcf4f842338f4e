"""A store as a whole: what it is to hold, and what it holds."""

import json
from pathlib import Path

import pytest

from pipeline.dataset.cases import Case
from pipeline.errors import UserError
from pipeline.labels import Labels, Region
from pipeline.store.catalogue import Catalogue
from pipeline.store.reader import open_store

LABELS = Labels(
    {"zebra": (4, 5), "ant": (1,)},
    regions=(Region("both", ("zebra", "ant"), "ant"),),
    ignore=255,
    swap=(("zebra", "ant"),),
    background=(0, 9),
)


DAMAGED = {
    "labels": {"values": "lung"},
    "spacing_mm": [1.5, 3.0],
    "cases": [{"name": "a"}],
}


def catalogue_of(keys: dict[str, str], split: str = "train", labels: Labels = LABELS) -> Catalogue:
    cases = [Case(name, Path(f"/i/{name}.nii"), Path(f"/l/{name}.nii"), f"p {name}", split) for name in keys]
    return Catalogue(labels, (1.5, 1.5, 3.0), tuple(cases), keys)


def test_a_catalogue_comes_back_as_it_was_written_with_the_order_of_its_classes(tmp_path: Path) -> None:
    written = catalogue_of({"b": "1", "a": "2"})
    written.write(tmp_path)
    read = Catalogue.read(tmp_path)
    assert read == written
    assert read.labels.names == ("zebra", "ant")


def test_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"store: no prepared cases; run prepare, or set data\.store"):
        Catalogue.read(tmp_path / "store")


def test_the_store_of_a_work_folder_is_proposed_where_the_folder_was_named(tmp_path: Path) -> None:
    catalogue_of({"a": "1"}).write(tmp_path / "store")
    with pytest.raises(UserError, match=r"no prepared cases; did you mean data\.store=.*/store\?$"):
        Catalogue.read(tmp_path)


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    catalogue_of({"a": "1"}).write(tmp_path)
    value = json.loads((tmp_path / "cases.json").read_text())
    (tmp_path / "cases.json").write_text(json.dumps(value | {"format": 99}))
    with pytest.raises(UserError, match=r"cases\.json: format 99, expected 1 or 2; run prepare"):
        Catalogue.read(tmp_path)


@pytest.mark.parametrize("key", DAMAGED)
@pytest.mark.parametrize("missing", [True, False])
def test_a_catalogue_that_was_altered_is_refused(tmp_path: Path, key: str, missing: bool) -> None:
    catalogue_of({"a": "1"}).write(tmp_path)
    value = json.loads((tmp_path / "cases.json").read_text())
    changed = {name: kept for name, kept in value.items() if name != key} | ({} if missing else {key: DAMAGED[key]})
    (tmp_path / "cases.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"cases\.json: altered since it was written .*; run prepare"):
        Catalogue.read(tmp_path)


def test_a_store_opens_sorted_by_name_without_what_is_excluded(tmp_path: Path, make_case) -> None:
    for name in "cab":
        make_case(name)
    catalogue_of({"c": "key", "b": "key", "a": "key"}).write(tmp_path)
    assert [case.name for case in open_store(tmp_path)] == ["a", "b", "c"]
    assert [case.name for case in open_store(tmp_path, ["b"])] == ["a", "c"]
    with pytest.raises(UserError, match=r"data\.exclude: there is no case 'd'"):
        open_store(tmp_path, ["d"])


def test_cases_that_are_no_longer_listed_are_not_opened(tmp_path: Path, make_case) -> None:
    make_case("old")
    make_case("new")
    catalogue_of({"new": "key"}).write(tmp_path)
    assert [case.name for case in open_store(tmp_path)] == ["new"]


def test_test_cases_are_never_opened(tmp_path: Path, make_case) -> None:
    make_case("a")
    catalogue_of({"a": "key"}, split="test").write(tmp_path)
    assert open_store(tmp_path) == []


def test_validation_cases_are_opened_too(tmp_path: Path, make_case) -> None:
    make_case("a")
    catalogue_of({"a": "key"}, split="validation").write(tmp_path)
    assert [case.name for case in open_store(tmp_path)] == ["a"]


def test_a_store_with_missing_or_outdated_cases_is_refused_with_their_names(tmp_path: Path, make_case) -> None:
    make_case("a")
    make_case("b")
    catalogue_of({"a": "key", "b": "of other files", "c": "key"}).write(tmp_path)
    with pytest.raises(UserError, match=r"2 of 3 training cases are not prepared .*\(b, c\); run prepare, or leave"):
        open_store(tmp_path)
    assert [case.name for case in open_store(tmp_path, ["b", "c"])] == ["a"]
