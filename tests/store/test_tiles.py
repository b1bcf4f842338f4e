"""The order of voxels in a file, and boxes found in it again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.tiles import box_at, copy_rows, parts, whole_tiles

SHAPE = st.tuples(*[st.integers(1, 9)] * 3)


def test_tiles_follow_one_another_across_z_then_y_and_each_is_whole_along_x() -> None:
    array = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    tiles = [tile.tolist() for tile in whole_tiles(array, (2, 3))]
    assert tiles == [
        [[[0, 1, 2], [5, 6, 7]], [[15, 16, 17], [20, 21, 22]]],
        [[[3, 4], [8, 9]], [[18, 19], [23, 24]]],
        [[[10, 11, 12]], [[25, 26, 27]]],
        [[[13, 14]], [[28, 29]]],
    ]


@given(st.data(), SHAPE, st.tuples(*[st.integers(1, 10)] * 2))
def test_a_box_is_put_together_from_its_parts_of_the_tiles(data, shape, tile_vox) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    file = np.concatenate([tile.reshape(-1) for tile in whole_tiles(array, tile_vox)])
    start = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    box_vox = tuple(data.draw(st.integers(1, size - first)) for size, first in zip(shape, start, strict=True))
    box = np.full(box_vox, -1, np.int16)
    taken = list(parts(shape, tile_vox, start, box_vox))
    for part in taken:
        tile = file[part.first : part.first + np.prod(part.shape_vox)].reshape(part.shape_vox)
        copy_rows(tile[part.here], box[part.there])
    np.testing.assert_array_equal(box, array[tuple(slice(s, s + n) for s, n in zip(start, box_vox, strict=True))])
    assert [part.number for part in taken] == sorted({part.number for part in taken})


def test_rows_are_copied_into_a_part_of_a_larger_array() -> None:
    target = np.zeros((3, 3, 4), np.int16)
    copy_rows(np.ones((1, 2, 3), np.int16), target[1:2, :2, 1:4])
    assert target.sum() == 6
    assert (target[1, :2, 1:] == 1).all()


def test_where_a_box_lies_within_an_array() -> None:
    assert box_at((0, 1, 2), (3, 3, 3), (9, 9, 9)) == ((0, 1, 2), (slice(0, 3), slice(0, 3), slice(0, 3)))
    assert box_at((-2, 8, 4), (3, 3, 3), (9, 9, 9)) == ((0, 8, 4), (slice(2, 3), slice(0, 1), slice(0, 3)))
    assert box_at((-2, -1, -5), (20, 20, 20), (9, 8, 1)) == ((0, 0, 0), (slice(2, 11), slice(1, 9), slice(5, 6)))
    for outside in ((9, 0, 0), (0, -3, 0), (0, 0, 50)):
        assert box_at(outside, (3, 3, 3), (9, 9, 9)) is None
