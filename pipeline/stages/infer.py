"""Segment CTs with a trained network, each on its own grid and with its own label values."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.config.check import check_inference
from pipeline.config.config import Config
from pipeline.config.infer import InferSection
from pipeline.dataset.cases import leave_out
from pipeline.dataset.checks import count_indices
from pipeline.device import choose
from pipeline.errors import UserError
from pipeline.files import hash_json
from pipeline.formats.dispatch import EXPECTED, files_in, read_image, stamps_of, stem, write_label, written_name
from pipeline.inference.predict import Predict, predictor
from pipeline.inference.segment import segment
from pipeline.log import log, table
from pipeline.model import Model, ModelFacts, hash_of
from pipeline.processes import threads_of
from pipeline.stages.data import every_case_of
from pipeline.stages.predictions import prediction_names
from pipeline.work import Outcome, Unit, WorkFolder, gather, run_units

FORMAT = 1  # of what a prediction is made of; a new number predicts every case again


class Scan(NamedTuple):
    """A CT to be predicted, and the file name of its prediction."""

    image: Path
    prediction: str


def run(config: Config) -> Outcome:
    """Predict each CT as a unit into `<work>/predict`, in its own format and under its own file name.

    Raises UserError where the model cannot be used, or there is no CT.
    """
    work = WorkFolder(config.work)
    folder = config.infer.model or work.model(config.train.fold)
    return predict_scans(config, folder, find_scans(config), work.predict)


def predict_scans(config: Config, folder: Path, scans: Mapping[str, Scan], predictions: Path) -> Outcome:
    """Predict each CT with the model in `folder` as a unit into `predictions`, and print their table.

    Of the config only `infer` counts, and `net.name` to allow a class outside the project.
    Raises UserError where the model cannot be used.
    """
    chosen = config.infer
    device = choose(chosen.device, key="infer.device")
    torch.set_num_threads(threads_of(chosen.threads))
    model = Model.load(folder, device, allow=config.net.name)
    check_inference(chosen, model.facts.labels)
    model_hash = hash_of(folder)
    units = [unit_of(name, scan, predictions, model_hash, chosen) for name, scan in scans.items()]
    predict = predictor(model.net, model.facts.head, chosen, device)
    make = partial(predict_case, scans=scans, predict=predict, facts=model.facts, infer=chosen)
    log.info("%d CTs with the model %s on %s", len(units), folder, device)
    outcome = run_units(predictions, units, make, workers=0, shard=chosen.shard, what="infer")
    report(gather(predictions, units) or [], model.facts)
    return outcome


def find_scans(config: Config) -> dict[str, Scan]:
    """Return the CTs to predict by name: `infer.input`, a file or a folder of files, else those of the test cases.

    Cases in `data.exclude` are left out.
    """
    given = config.infer.input
    if given is None:
        found = every_case_of(config)
        names, cases = prediction_names(found), leave_out(found, config.data.exclude)
        scans = {case.name: Scan(case.image, names[case.name]) for case in cases if case.split == "test"}
        if not scans:
            raise UserError(
                "infer.input: not set, and the data set lists no test cases; give a CT file or a folder of them."
            )
        return scans
    if given.is_file():
        files = {stem(given) or given.name: given}
    elif given.is_dir():
        files = files_in(given)
    else:
        raise UserError(f"infer.input: {given} is neither a file nor a folder; give a CT file or a folder of them.")
    scans = {name: Scan(path, written_name(path)) for name, path in files.items() if name not in config.data.exclude}
    if not scans:
        raise UserError(f"infer.input: {given} holds no {EXPECTED} file that data.exclude does not leave out.")
    return scans


def unit_of(name: str, scan: Scan, predictions: Path, model_hash: str, infer: InferSection) -> Unit:
    """Return the unit of a CT; its key tells whether it must be predicted again."""
    image, output = scan.image, predictions / scan.prediction
    if output.exists() and image.exists() and output.samefile(image):
        raise UserError(f"infer.input: {image.parent} is where predictions are written; give another work folder.")
    key = {
        "format": FORMAT,
        "model": model_hash,
        **stamps_of({"image": image}),
        "infer": infer.model_dump(mode="json", include={"overlap", "mirror", "keep_largest", "engine", "amp"}),
    }
    return Unit(name, hash_json(key), output)


def predict_case(
    unit: Unit, temporary: Path, *, scans: Mapping[str, Scan], predict: Predict, facts: ModelFacts, infer: InferSection
) -> dict[str, Any]:
    """Segment one CT and write its labels; return the volume of each class in ml."""
    image = read_image(scans[unit.name].image)
    encoded = segment(image, predict, facts, infer).voxels
    write_label(temporary, facts.labels.restore(encoded), image)
    counts = count_indices(encoded)
    voxel_ml = float(np.prod(image.grid.spacing_mm)) / 1000
    names = facts.labels.names
    return {"volume_ml": {name: round(counts.get(index, 0) * voxel_ml, 3) for index, name in enumerate(names, 1)}}


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
