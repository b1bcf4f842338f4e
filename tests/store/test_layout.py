"""Which order new cases are stored in."""

import pytest

from pipeline.store.layout import Layout, new_layout


@pytest.mark.parametrize(("depth", "tile"), [(1, 1), (128, 128), (256, 256), (257, 129), (400, 200), (600, 200)])
def test_only_long_rows_are_cut_and_into_equal_parts(depth: int, tile: int) -> None:
    assert new_layout("none", (300, 200, depth)) == Layout(".raw", (200, tile), 300)


def test_compressed_blocks_have_one_size() -> None:
    assert new_layout("lz4", (300, 200, 100)) == new_layout("lz4", (5, 6, 7)) == Layout(".lz4", (32, 96), 32)


def test_a_layout_comes_back_from_json_and_nonsense_does_not() -> None:
    layout = Layout(".lz4", (3, 4), 5)
    assert Layout.from_json(layout.to_json()) == layout
    for wrong in ({"suffix": ".zip"}, {"layer_vox": 0}, {"tile_vox": [1, 2, 3]}):
        with pytest.raises(ValueError):
            Layout.from_json(layout.to_json() | wrong)
