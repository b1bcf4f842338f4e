"""nnU-Net's preprocessing of a data set, measured; run by `bench/prepare.py` with the peers' interpreter:

bench/peers/bin/python -m bench.prepare_peer DATA OUT 3 3 3

What counts is what its default plan does: `DefaultPreprocessor.run_case_save` with SimpleITK, `CTNormalization`,
`resample_data_or_seg_to_shape` (order 3 for the image, order 1 for the labels) and Blosc2 files.
"""

import json
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from bench.status import status_bytes

RESAMPLING = "resample_data_or_seg_to_shape"
INTENSITIES = {"mean": 100.0, "std": 200.0, "percentile_00_5": -900.0, "percentile_99_5": 1500.0}


def plan_of(spacing_mm: list[float]) -> dict:
    """Return the parts of a default plan that preprocessing reads; nnU-Net's axes are z, y, x."""
    ways = {"data": 3, "seg": 1}
    configuration = {
        "spacing": spacing_mm[::-1],
        "patch_size": [128, 128, 128],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {},
        **{f"resampling_fn_{what}": RESAMPLING for what in ways},
        **{f"resampling_fn_{what}_kwargs": {"is_seg": what == "seg", "order": order, "order_z": 0,
                                            "force_separate_z": None} for what, order in ways.items()},
    }  # fmt: skip
    return {
        "dataset_name": "Dataset001_bench",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
        "configurations": {"3d_fullres": configuration},
    }


class Timed(ConfigurationManager):
    """A configuration that counts the seconds spent in its two resamplings."""

    def __init__(self, configuration: dict) -> None:
        super().__init__(configuration)
        self.seconds = {"image": 0.0, "label": 0.0}

    def timed(self, what: str, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        self.seconds[what] += time.perf_counter() - start
        return result

    @property
    def resampling_fn_data(self):
        return partial(self.timed, "image", super().resampling_fn_data)

    @property
    def resampling_fn_seg(self):
        return partial(self.timed, "label", super().resampling_fn_seg)


def main() -> None:
    """Prepare the data set given, and print what it took as JSON."""
    torch.set_num_threads(1)
    source, made, *spacing = sys.argv[1:]
    folder, out = Path(source), Path(made)
    out.mkdir(parents=True)
    plans = PlansManager(plan_of([float(mm) for mm in spacing]))
    configuration = Timed(plans.plans["configurations"]["3d_fullres"])
    described = json.loads((folder / "dataset.json").read_text())
    preprocessor = DefaultPreprocessor(verbose=False)
    imported = status_bytes("VmRSS")
    start = time.perf_counter()
    for image in sorted((folder / "images").iterdir()):
        case = image.name.removesuffix(".nii.gz")
        label = str(folder / "labels" / image.name)
        preprocessor.run_case_save(str(out / case), [str(image)], label, plans, configuration, described)
    whole = time.perf_counter() - start
    memory = {"peak": status_bytes("VmHWM"), "imported": imported}
    named = f"nnU-Net {version('nnunetv2')}"
    print(json.dumps({"name": named, "seconds": {"whole": whole, **configuration.seconds}, "memory": memory}))


if __name__ == "__main__":
    main()
