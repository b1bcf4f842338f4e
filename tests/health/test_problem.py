"""Many problems in a few lines."""

from pipeline.health.problem import Problem, error, fold, note, warning


def test_problems_that_differ_in_case_and_numbers_become_one_line_with_the_first_as_an_example() -> None:
    given = [warning(f"hn_{n:03}", "few voxels", f"voxels of liver: {n}", "look at it") for n in range(1, 6)]
    (line,) = fold(given)
    assert line.cases == ("hn_001", "hn_002", "hn_003", "hn_004", "hn_005")
    assert line.cells() == [
        "hn_001, hn_002, hn_003 and 2 more",
        "few voxels",
        "such as hn_001: voxels of liver: 1",
        "look at it",
    ]


def test_a_line_of_one_case_or_of_the_data_set_shows_what_was_found_as_it_is() -> None:
    one = fold([error("a", "cannot be used", "a.nii.gz: 3 bytes", "mend it")])
    whole = fold([note("", "mixed orientation", "RAS in 3", "none")])
    assert [line.cells()[:3] for line in (*one, *whole)] == [
        ["a", "cannot be used", "a.nii.gz: 3 bytes"],
        ["data set", "mixed orientation", "RAS in 3"],
    ]


def test_the_name_of_the_case_and_signs_do_not_keep_problems_apart() -> None:
    first = warning("liver case", "volume", "/d/liver case.nii.gz: spleen +20.5%, 1,000 mm3", "c")
    second = warning("b", "volume", "/d/b.nii.gz: spleen -7%, 12 mm3", "c")
    (line,) = fold([first, second])
    assert line.cases == ("liver case", "b")


def test_a_short_case_name_is_not_sought_inside_words() -> None:
    (line,) = fold([warning("a", "k", "a: a small lake 1", "c"), warning("b", "k", "b: b small lake 2", "c")])
    assert line.cases == ("a", "b")
    assert len(fold([warning("a", "k", "a cat", "c"), warning("c", "k", "c cat", "c")])) == 1


def test_names_with_numbers_keep_problems_apart() -> None:
    lines = fold([warning("a", "few voxels", f"voxels of rib_left_{n}: 3", "c") for n in (1, 2)])
    assert len(lines) == 2


def test_another_severity_cure_or_text_is_another_line() -> None:
    base = warning("a", "k", "liver 1", "c")
    others = [error("b", "k", "liver 1", "c"), warning("b", "k", "liver 1", "d"), warning("b", "k", "lung 1", "c")]
    assert len(fold([base, *others])) == 4


def test_errors_come_first_then_warnings_then_notes_each_in_their_order() -> None:
    given = [
        note("", "n", "x", "c"),
        warning("", "w1", "x", "c"),
        error("", "e", "x", "c"),
        warning("", "w2", "x", "c"),
    ]
    assert [line.what for line in fold(given)] == ["e", "w1", "w2", "n"]


def of_classes(count: int) -> list[Problem]:
    """Return a problem for each class; class k0 is in two cases, every other in one of its own."""
    given = [warning(f"case{n}", "few voxels", f"voxels of k{n}: 1", "c") for n in range(count)]
    return [*given, warning("again", "few voxels", "voxels of k0: 2", "c")]


def test_eight_lines_of_a_kind_are_shown_and_of_nine_the_last_two_are_counted() -> None:
    assert len(fold(of_classes(8))) == 8
    lines = fold(of_classes(9))
    assert len(lines) == 8
    assert lines[0].cases == ("case0", "again")  # most cases first
    assert lines[-1].cases == ("case7", "case8")
    assert lines[-1].found == "2 more such lines, as the log file has them; voxels of k7: 1"


def test_a_thousand_cases_with_a_hundred_classes_stay_readable() -> None:
    given = [
        warning(f"case_{n:04}", "few voxels", f"voxels of class_{k}: {n % 10}", "c")
        for n in range(1000)
        for k in range(100)
    ]
    lines = fold(given)
    assert len(lines) == 8
    assert all(len(cell) < 120 for line in lines for cell in line.cells())


def test_nothing_wrong_is_no_line() -> None:
    assert fold([]) == []
