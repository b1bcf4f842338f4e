from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.dataset.cases import Case
from pipeline.dataset.layouts import find_cases
from pipeline.errors import UserError
from pipeline.labels import Labels

LABELS = Labels({"liver": (1,)})


@pytest.fixture
def find(plant) -> Callable[..., list[Case]]:
    """Return a function that gives the cases of a CSV file that lies beside ct/ and seg/ with the files a, b and c."""
    folder = plant(f"{kind}/{name}.nii.gz" for kind in ("ct", "seg") for name in "abc")

    def make(text: str, encoding: str = "utf-8", name: str = "cases.csv") -> list[Case]:
        (folder / name).write_bytes(text.encode(encoding))
        return find_cases(folder / name, LABELS)

    return make


def test_a_case_is_a_line_with_what_its_columns_say(find, tmp_path: Path) -> None:
    text = "case,image,label,patient,split,group\na,ct/a.nii.gz,seg/b.nii.gz,p,validation,scanner 1\n"
    assert find(text) == [
        Case("a", tmp_path / "ct/a.nii.gz", tmp_path / "seg/b.nii.gz", "p", "validation", "scanner 1")
    ]


def test_optional_columns_and_cells_may_be_missing(find) -> None:
    (case,) = find("case,image,label,patient\na,ct/a.nii.gz,seg/a.nii.gz\n")
    assert (case.patient, case.split, case.group) == ("a", "train", "")


def test_absolute_paths_count_as_they_are(find, tmp_path: Path) -> None:
    (case,) = find(f"case,image,label\na,{tmp_path}/ct/a.nii.gz,seg/a.nii.gz\n")
    assert case.image == tmp_path / "ct/a.nii.gz"


def test_a_tilde_stands_for_the_home_folder_unless_it_is_part_of_a_name(
    find, plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(["~$a.nii.gz"])
    monkeypatch.setenv("HOME", str(tmp_path / "seg"))
    (case,) = find("case,image,label\na,~$a.nii.gz,~/a.nii.gz\n")
    assert (case.image, case.label) == (tmp_path / "~$a.nii.gz", tmp_path / "seg/a.nii.gz")


def test_a_test_case_may_do_without_a_label(find) -> None:
    (case,) = find("case,image,label,split\na,ct/a.nii.gz,,Test\n")
    assert (case.split, case.label) == ("test", None)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffcase;image;label;split\r\na;ct/a.nii.gz;seg/a.nii.gz;val\r\n\r\n",
        "Case\t IMAGE\tLabel\tsplit\na\tct/a.nii.gz \t seg/a.nii.gz\tval\n",
        'split,label,image,case\nval,"seg/a.nii.gz",ct/a.nii.gz,"a"\n',
        "\n\ncase,image,label,split,\na,ct/a.nii.gz,seg/a.nii.gz,val,,\n,,,,\n",
    ],
    ids=["mark, semicolons, Windows", "tabs, capitals, spaces", "quotes, other order", "blank lines, empty columns"],
)
def test_files_are_read_as_spreadsheets_write_them(find, text: str) -> None:
    (case,) = find(text)
    assert (case.name, case.image.name, case.split) == ("a", "a.nii.gz", "validation")


def test_columns_that_mean_nothing_are_named(find, caplog) -> None:
    caplog.set_level("INFO")
    find("case,image,label,age,notes\na,ct/a.nii.gz,seg/a.nii.gz,70,x\n")
    assert "cases.csv: columns that mean nothing here: age, notes" in caplog.text


A, B = "a,ct/a.nii.gz,seg/a.nii.gz", "b,ct/b.nii.gz,seg/b.nii.gz"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no line below the columns; expected case, image, label and a line for each case"),
        ("case,image,label\n", "no line below the columns"),
        ("case,image\na,ct/a.nii.gz\n", "line 1: no column 'label' among case, image; expected case, image, label"),
        (f"case,image,label,case\n{A},a\n", "line 1: two columns are called 'case'"),
        (f"case,image,label,patients\n{A},p\n", "line 1: column 'patients'; did you mean 'patient'"),
        (f"case,image,label\n\n{A},x,y\n", r"line 3: 5 cells for 3 columns; quote a cell that holds ','"),
        (f"case,image,label\n{A}\n,ct/b.nii.gz,seg/b.nii.gz\n", "line 3: case is empty"),
        ("case,image,label\na,,seg/a.nii.gz\n", "line 2: image is empty"),
        ("case,image,label\na,ct/a.nii.gz,\n", "line 2: the case 'a' has no label; fill it in, or set split to test"),
        (f"case,image,label,split\n{A},trian\n", "line 2: split is 'trian'; expected train, validation or test"),
        (
            f"case,image,label\n{A}\n{B}\na,ct/c.nii.gz,seg/c.nii.gz\n",
            "line 4: the case 'a' stands in line 2, too; remove one",
        ),
        (
            f"case,image,label\n{A}\nb,./ct/a.nii.gz,seg/b.nii.gz\n",
            r"line 3: the image .*ct/a\.nii\.gz stands in line 2, too",
        ),
        (f"case,image,label\n{A}\nb,ct/x.nii.gz,seg/x.nii.gz\n", r"line 3: .*ct/x\.nii\.gz not found \(2 of 4 files"),
        ("case,image,label\na,ct/a.dcm,seg/a.nii.gz\n", r"line 2: image ct/a\.dcm is of no known format"),
        ("case,image,label\na,ct/a.nii.gz,seg\n", "line 2: label seg is of no known format"),
        ("case,image,label\n../a,ct/a.nii.gz,seg/a.nii.gz\n", r"line 2: no file can be called '\.\./a'.*has no slash"),
        (f'case,image,label\n"a"x,{A}\n', r"line 2: no CSV \(.*\); mend the line"),
        (f'case,image,label\n{A}\n"b,{B}\n', r"line 3: no CSV \(.*\); mend the line"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(find, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"cases\.csv.*{sentence}"):
        find(text)


def test_a_file_of_another_encoding_is_refused_with_the_line(find) -> None:
    with pytest.raises(UserError, match=r"cases\.csv, line 3: not UTF-8 text; save the file as CSV in UTF-8"):
        find(f"case,image,label\n{A}\nbäh,ct/b.nii.gz,seg/b.nii.gz\n", "latin-1")


def test_the_suffix_may_be_in_capitals(find) -> None:
    assert len(find(f"case,image,label\n{A}\n", name="CASES.CSV")) == 1
