"""Segment CTs with a trained network, each on its own grid and with its own label values."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.config import Config
from pipeline.config.infer import InferSection
from pipeline.device import amp_dtype, choose
from pipeline.errors import UserError
from pipeline.files import hash_json, stamp
from pipeline.inference.segment import Predict, predictor, segment
from pipeline.log import log, table
from pipeline.model import Model, ModelFacts, hash_of
from pipeline.stages.data import cases_of
from pipeline.volume.nifti import read_image, write_label
from pipeline.work import Outcome, Unit, WorkFolder, available_cores, gather, run_units

SUFFIXES = (".nii.gz", ".nii")
FORMAT = 1  # of what a prediction is made of; a new number predicts every case again


def run(config: Config) -> Outcome:
    """Predict each CT as a unit into `<work>/predict`, under the CT's own file name.

    Raises UserError where the model cannot be used, or there is no CT.
    """
    chosen = config.infer
    work = WorkFolder(config.work)
    folder = chosen.model or work.model(config.train.fold)
    device = choose(chosen.device)
    torch.set_num_threads(available_cores())
    model = Model.load(folder, device, allow=config.net.name)
    images = {path.name: path for path in find_images(config)}
    units = [unit_of(path, work.predict, folder, chosen) for path in images.values()]
    predict = predictor(model.net, device, amp_dtype(chosen.amp, device))
    make = partial(predict_case, images=images, predict=predict, facts=model.facts, infer=chosen)
    log.info("%d CTs with the model %s on %s", len(units), folder, device)
    outcome = run_units(work.predict, units, make, workers=0, shard=chosen.shard)
    report(gather(work.predict, units) or [], model.facts)
    return outcome


def find_images(config: Config) -> list[Path]:
    """Return the CTs to predict: `infer.input`, a file or a folder of files, else the test cases' images."""
    given = config.infer.input
    if given is None:
        images = [case.image for case in cases_of(config) if case.split == "test"]
        if not images:
            raise UserError(
                "infer.input: not set, and the data set lists no test cases; give a NIfTI file or a folder of them."
            )
        return images
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise UserError(f"infer.input: {given} is neither a file nor a folder; give a NIfTI file or a folder of them.")
    images = [p for p in sorted(given.iterdir()) if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")]
    if not images:
        raise UserError(f"infer.input: {given} holds no .nii or .nii.gz file.")
    return images


def unit_of(image: Path, predictions: Path, model: Path, infer: InferSection) -> Unit:
    """Return the unit of a CT; its key tells whether it must be predicted again."""
    if predictions.absolute() == image.absolute().parent:
        raise UserError(f"infer.input: {image.parent} is where predictions are written; give another work folder.")
    key = {
        "format": FORMAT,
        "model": hash_of(model),
        "image": stamp(image) if image.exists() else str(image),
        "infer": infer.model_dump(mode="json", include={"overlap", "engine", "amp"}),
    }
    return Unit(image.name, hash_json(key), predictions / image.name)


def predict_case(
    unit: Unit, temporary: Path, *, images: Mapping[str, Path], predict: Predict, facts: ModelFacts, infer: InferSection
) -> dict[str, Any]:
    """Segment one CT and write its labels; return the volume of each class in ml."""
    image = read_image(images[unit.name])
    encoded = segment(image, predict, facts, infer).voxels
    write_label(temporary, facts.labels.restore(encoded), image)
    counts = np.bincount(encoded.ravel(), minlength=len(facts.labels.names) + 1)[1:]
    voxel_ml = float(np.prod(image.grid.spacing_mm)) / 1000
    return {"volume_ml": {n: round(float(c) * voxel_ml, 3) for n, c in zip(facts.labels.names, counts, strict=True)}}


def report(records: Sequence[Mapping[str, Any]], facts: ModelFacts) -> None:
    """Print the table of the predictions."""
    if not records:
        return
    rows = [
        [
            record["name"],
            *(f"{record['facts']['volume_ml'][name]:.1f}" for name in facts.labels.names),
            f"{record['seconds']:.1f}",
            f"{record['peak_memory_bytes'] / 2**30:.2f}",
        ]
        for record in records
    ]
    table("predictions, ml a class", ["CT", *facts.labels.names, "s", "peak GiB"], rows)
