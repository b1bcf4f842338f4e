"""train.csv grows by rows, and a resumed run forgets what came after its state."""

from pathlib import Path

from pipeline.monitor.table import Table, read_rows

COLUMNS = ["step", "loss", "dice"]


def written(path: Path) -> None:
    table = Table(path, COLUMNS)
    for step in (1, 5, 10):
        table.add({"step": step, "loss": step / 10})
    table.add({"step": 10, "dice": 0.75})


def test_rows_come_back_with_empty_cells_for_what_they_lack(tmp_path: Path) -> None:
    written(tmp_path / "train.csv")
    rows = read_rows(tmp_path / "train.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("1", "0.1", ""), ("5", "0.5", ""), ("10", "1.0", ""), ("10", "", "0.75"),
    ]  # fmt: skip


def test_rows_up_to_the_saved_step_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    written(path)
    Table(path, COLUMNS, after_step=5).add({"step": 6, "loss": 0.0})
    assert [row["step"] for row in read_rows(path)] == ["1", "5", "6"]


def test_a_run_that_begins_anew_begins_its_table_anew(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    written(path)
    Table(path, COLUMNS)
    assert read_rows(path) == []


def test_every_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    written(path)
    content = path.read_bytes()
    last = b"10,,0.75\r\n"
    assert content.endswith(last)
    for cut in range(1, len(last) + 1):
        path.write_bytes(content[:-cut])
        assert [row["step"] for row in read_rows(path)] == ["1", "5", "10"]


def test_bytes_that_are_no_text_hide_no_other_row(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff\xfe,\0\r\n", *lines[1:], b"\0\xff"]))
    assert [row["step"] for row in read_rows(path)] == [line.split(b",")[0].decode() for line in lines[1:]]


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "nothing.csv") == []
