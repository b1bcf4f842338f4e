"""The contract of a positive slot, over many batches with every change on."""

import numpy as np
import pytest

from pipeline.config.augment import AugmentSection
from pipeline.config.sample import SampleSection
from pipeline.head import Head
from pipeline.sampling.augment import make_patch
from pipeline.sampling.draw import draw, positive_slots
from pipeline.sampling.index import build_index
from pipeline.volume.intensity import Intensity

BATCHES = 10_000
SAMPLE = SampleSection(patch_vox=(8, 7, 6), batch=2, positive=0.5)
CERTAIN = {key: 1.0 for key in AugmentSection.model_fields if key.endswith("_probability")}
EVERYTHING = AugmentSection(
    **CERTAIN, rotation_deg=180, scale=(0.5, 2), elastic_spacing_mm=5, elastic_mm=2, mirror=("x", "y", "z")
)


@pytest.mark.slow
def test_10_000_batches_with_every_change_on_have_every_one_voxel_target_where_it_was_promised(make_point_case, sided):
    corners = {1: (0, 0, 0), 2: (11, 9, 7), 3: (5, 0, 7)}
    inside = {1: (3, 4, 5), 2: (4, 4, 5), 3: (9, 9, 1)}
    cases = [
        make_point_case(corners, name="isotropic"),
        make_point_case(inside, name="thick", spacing_mm=(0.9, 0.9, 5.0)),
        make_point_case(inside, name="slice", shape=(12, 10, 8), spacing_mm=(3.0, 1.0, 2.0)),
    ]
    index = build_index(cases, Head("softmax", sided), EVERYTHING.mirror)
    drawn_labels = np.zeros(4, int)
    for step in range(BATCHES):
        for slot in range(positive_slots(SAMPLE)):
            drawn = draw(index, SAMPLE, 0, step, slot)
            case = index.cases[drawn.case]
            _, labels = make_patch(case, drawn, SAMPLE.patch_vox, EVERYTHING, Intensity((-200, 400)), sided)
            assert labels[drawn.place_vox] == drawn.label
            drawn_labels[drawn.label] += 1
    assert drawn_labels.sum() == BATCHES
    assert (drawn_labels[1:] > BATCHES / 4).all()
