"""The presets of augmentation, and values that it refuses."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config.augment import PRESETS, AugmentSection
from pipeline.config.load import load
from pipeline.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
PROBABILITIES = {key for key in AugmentSection.model_fields if key.endswith("_probability")}


def test_none_turns_everything_off():
    section = AugmentSection(preset="none")
    assert {getattr(section, key) for key in PROBABILITIES} == {0.0}
    assert section.mirror == ()


def test_light_has_shape_and_contrast_but_nothing_that_hides_detail():
    section = AugmentSection(preset="light")
    on = {key.removesuffix("_probability") for key in PROBABILITIES if getattr(section, key) > 0}
    assert on == {"rotation", "scale", "brightness", "contrast", "gamma"}


def test_default_has_the_strengths_and_probabilities_of_nnunet():
    section = AugmentSection()
    assert (section.rotation_deg, section.rotation_probability, section.scale_probability) == (30, 0.2, 0.2)
    assert (section.noise_probability, section.brightness_probability, section.contrast_probability) == (
        0.1,
        0.15,
        0.15,
    )
    assert (section.gamma, section.gamma_inverted_probability, section.gamma_probability) == ((0.7, 1.5), 0.1, 0.3)
    # half of the times that the transform is chosen it takes the image's only channel
    assert (section.blur_probability, section.low_resolution_probability) == (0.2 * 0.5, 0.25 * 0.5)
    assert section.elastic_probability == 0


def test_only_what_was_given_counts_as_set_and_not_what_its_preset_says():
    for section in (load(["augment.preset=light", "augment.mirror=[y]"]).augment,
                    AugmentSection(preset="light", mirror=("y",))):  # fmt: skip
        assert section.model_fields_set == {"preset", "mirror"}
        assert section.model_dump(exclude_unset=True) == {"preset": "light", "mirror": ("y",)}
        assert (section.rotation_deg, section.noise_probability) == (15, 0)


def test_each_preset_names_keys_that_exist():
    assert all(set(preset) <= set(AugmentSection.model_fields) for preset in PRESETS.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["augment.elastic_mm=20"],
            "augment.elastic_mm: found 20, expected at most 12.8, 0.4 of augment.elastic_spacing_mm: tissue would fold "
            "over itself.",
        ),
        (["augment.elastic_spacing_mm=8"], "augment.elastic_mm: found nothing, expected at most 3.2"),
        (["augment.low_resolution=[0.5, 2]"], "augment.low_resolution: found [0.5, 2], expected at most 1"),
        (["augment.blur_vox=[1, 0.5]"], "augment.blur_vox: found [1, 0.5], expected the lower bound first"),
        (["augment.anisotropy=0.5"], "augment.anisotropy"),
        (["augment.blur_probability=1.5"], "augment.blur_probability"),
    ],
)
def test_values_that_make_no_sense_are_refused(words, message):
    with pytest.raises(UserError) as refused:
        load(words)
    assert message in str(refused.value)


def test_the_page_has_every_key_with_its_value_in_every_preset():
    cells = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    rows = {key: [cell.strip() for cell in row.split("|")] for key, row in cells}
    assert set(rows) == set(AugmentSection.model_fields) - {"preset"}
    for column, preset in enumerate(PRESETS):
        section = AugmentSection(preset=preset).model_dump(mode="json")
        for key, row in rows.items():
            if row[column]:  # a strength says nothing where its probability is 0
                assert yaml.safe_load(row[column]) == section[key], (preset, key)
