from pathlib import Path

from pipeline.report.tables import cell, write_csv


def test_csv_quotes_what_needs_it_and_leaves_none_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "new" / "table.csv", ("case", "value"), [["a, b", 0.5], ["Kopf-Hals-ä", None]])
    text = (tmp_path / "new" / "table.csv").read_text(encoding="utf-8")
    assert text == 'case,value\n"a, b",0.5\nKopf-Hals-ä,\n'


def test_a_cell_has_its_decimals_or_a_dash() -> None:
    assert (cell(0.12345, 3), cell(0.0, 1), cell(None, 3)) == ("0.123", "0.0", "-")
