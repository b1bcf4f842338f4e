"""Surface elements of a voxel mask: where they lie and how large they are.

The method is that of Google DeepMind's surface-distance (Nikolov et al., "Deep learning to achieve clinically
applicable segmentation of head and neck anatomy for radiotherapy", 2018): between any 2 x 2 x 2 voxels that are not
all alike lies one element, whose area is that of the marching-cubes surface between them (Lorensen and Cline 1987).
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np

Point = tuple[float, ...]
Triangle = tuple[int, int, int]
CORNERS = tuple(product((0, 1), repeat=3))  # the corner at position i is bit i of a neighbour code


def neighbour_codes(mask: np.ndarray) -> np.ndarray:
    """Return which of the 2 x 2 x 2 voxels around each voxel corner are inside, as bits in the order of CORNERS.

    mask: bool (x, y, z). Outside the array is outside the object, so that every surface is closed.

    Returns uint8 (x + 1, y + 1, z + 1); the code at (i, j, k) is about voxels i - 1 and i, j - 1 and j, k - 1 and k.
    """
    inside = np.ascontiguousarray(mask).view(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(1 - side, 1 - side + n) for side, n in zip(corner, mask.shape, strict=True))
        codes[window] |= inside << np.uint8(bit)
    return codes


def surface_areas_mm2(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return the area of the surface element of each of the 256 neighbour codes at a voxel spacing, float64 (256,)."""
    x, y, z = spacing_mm
    stretch = np.array([y * z, x * z, x * y])  # how an area that faces along each axis grows with the spacing
    return np.array([np.linalg.norm(normals * stretch, axis=1).sum() for normals in _normals_by_code()])


@cache
def _normals_by_code() -> tuple[np.ndarray, ...]:
    """Return for each neighbour code the normals (n, 3) of its triangles on a unit cube, each as long as its area."""
    return tuple(_normals(code) for code in range(256))


def _normals(code: int) -> np.ndarray:
    """Return the normals (n, 3) of the triangles of one neighbour code."""
    inside = {corner: bool(code >> bit & 1) for bit, corner in enumerate(CORNERS)}
    if sum(inside.values()) > 4:  # a mask and its complement have the same surface
        inside = {corner: not value for corner, value in inside.items()}
    found = [np.zeros((0, 3))]
    for loop in _loops(inside):
        points = np.array(loop)
        triangulations = [_triangle_normals(points, triangles) for triangles in _triangulations(0, len(loop) - 1)]
        # Five and six points need not lie in a plane. The largest of the possible surfaces is the one in use by
        # surface-distance, for every code; there is one largest.
        found.append(max(triangulations, key=lambda normals: np.linalg.norm(normals, axis=1).sum()))
    return np.concatenate(found)


def _loops(inside: dict[tuple[int, ...], bool]) -> list[list[Point]]:
    """Return the closed polygons in which the surface cuts the edges of the cube, in their middle."""
    neighbours: dict[Point, list[Point]] = {}
    for axis, side in product(range(3), (0, 1)):
        for first, second in _cuts(axis, side, inside):
            neighbours.setdefault(first, []).append(second)
            neighbours.setdefault(second, []).append(first)
    loops = []
    while neighbours:
        point, (following, _) = next(iter(neighbours.items()))
        loop = []
        while point in neighbours:
            loop.append(point)
            ahead = neighbours.pop(point)
            point = next((near for near in ahead if near in neighbours), following)
        loops.append(loop)
    return loops


def _cuts(axis: int, side: int, inside: dict[tuple[int, ...], bool]) -> Iterator[tuple[Point, Point]]:
    """Yield the lines (from edge middle to edge middle) that the surface draws on one face of the cube.

    Where two corners across a face are inside, each is cut off by itself.
    """
    ring = [(*pair[:axis], side, *pair[axis:]) for pair in ((0, 0), (1, 0), (1, 1), (0, 1))]
    middles = [tuple((a + b) / 2 for a, b in zip(ring[i - 1], ring[i], strict=True)) for i in range(4)]
    cut = [middles[i] for i in range(4) if inside[ring[i - 1]] != inside[ring[i]]]
    if len(cut) == 2:
        yield cut[0], cut[1]
    elif len(cut) == 4:
        yield from ((middles[i], middles[(i + 1) % 4]) for i in range(4) if inside[ring[i]])


def _triangulations(first: int, last: int) -> list[list[Triangle]]:
    """Return every way to cut the polygon with the corners first..last into triangles."""
    if last - first < 2:
        return [[]]
    return [
        [(first, middle, last), *before, *after]
        for middle in range(first + 1, last)
        for before in _triangulations(first, middle)
        for after in _triangulations(middle, last)
    ]


def _triangle_normals(points: np.ndarray, triangles: list[Triangle]) -> np.ndarray:
    """Return the normals (n, 3) of triangles over points (m, 3), each as long as the triangle's area."""
    corner, second, third = points[np.array(triangles)].transpose(1, 0, 2)
    return np.cross(second - corner, third - corner) / 2
