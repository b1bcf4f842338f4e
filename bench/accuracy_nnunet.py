"""nnU-Net's side of `bench/accuracy.py`: from raw NIfTI to predictions by its own planner, trainer and predictor.

bench/peers/bin/python -m bench.accuracy_nnunet DATA OUT --minutes 30 --device cpu --workers 1 \
    --spacing 4 --patch 48 --features 16,32,64,96 --batch 2 --optimiser adamw --lr 1e-3 --no-mirror
python3 -m bench.accuracy_nnunet DATA OUT --minutes 9 --predict-seconds 60 --device cuda --workers 15

Cases are those of `bench/accuracy.py`: the first ones of DATA by name train, the last `--test` are predicted into OUT;
with `--fold K` (0 to 4) the test cases are not touched, and of the others every fifth, from the K-th on, is predicted.
What is predicted is not prepared, and nnU-Net's fold is `all`. `--seed` sets torch's and NumPy's generators, and so the
first weights; its worker processes take their draws from the operating system, so that no run repeats another.

As shipped: fingerprint, plan (unless the keys above change it), preprocessing, sampling, augmentation with mirroring of
all axes, network, deep supervision, loss, SGD (0.01, momentum 0.99), compilation on a GPU, tiles at half a step,
mirroring in prediction. Changed: the polynomial schedule runs over the time given instead of 1,000 epochs, and the
validation patches, plots and checkpoints of each epoch are left out, which gives training more of that time. NIfTI is
read by its NibabelIO. `--optimiser` and `--no-mirror` choose its own trainer variants.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import (
    nnUNetTrainerAdam,
    nnUNetTrainerVanillaAdam,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from bench.accuracy_cases import ENDING, FOLDS, split

NAME = "Dataset001_bench"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"
OPTIMISERS = {"sgd": nnUNetTrainer, "adamw": nnUNetTrainerAdam, "adam": nnUNetTrainerVanillaAdam}
STEPS_A_LINE = 250  # of an epoch, as shipped


class TimedTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a time instead of a number of epochs."""

    def train_until(self, deadline: float) -> dict[str, float]:
        """Train until `time.monotonic()` reaches the deadline; return the steps made and where the seconds went.

        The rate falls from the end of the first step on, which compiles.
        """
        began = time.monotonic()
        self.on_train_start()
        self.network.train()
        ready = first_done = time.monotonic()
        step, waited, losses = 0, 0.0, []
        while (now := time.monotonic()) < deadline:
            if step:
                self.lr_scheduler.step((now - first_done) / (deadline - first_done) * self.num_epochs)
            batch = next(self.dataloader_train)
            waited += time.monotonic() - now
            losses.append(float(self.train_step(batch)["loss"]))
            step += 1
            if step == 1:
                first_done, waited = time.monotonic(), 0.0
            if step % STEPS_A_LINE == 0:
                rate = self.optimizer.param_groups[0]["lr"]
                print(f"step {step}, {now - began:.0f} s, loss {np.mean(losses[-STEPS_A_LINE:]):.4f}, rate {rate:.5f}")
        ended = time.monotonic()
        self.on_train_end()
        after_first = ended - first_done
        return {
            "steps": step,
            "setup_seconds": ready - began,
            "first_step_seconds": first_done - ready,
            "step_ms": 1e3 * after_first / max(step - 1, 1),
            "waiting_share": waited / after_first,
            "last_loss": float(np.mean(losses[-STEPS_A_LINE:])),
        }


def main() -> None:
    """Prepare, train, predict and say what each took in OUT/seconds.json."""
    began = time.monotonic()
    arguments = parsed()
    device = torch.device(arguments.device)
    set_up_torch(device, os.cpu_count() or 1)
    labels = json.loads((arguments.data / "dataset.json").read_text())["labels"]
    train, test = split(arguments.data, arguments.test, arguments.fold)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        set_environment(work, arguments)
        plans = prepare(arguments, work, train, labels)
        prepared = time.monotonic()
        trainer = make_trainer(arguments, work, plans, device)
        if arguments.train_minutes is not None:
            deadline = prepared + 60 * arguments.train_minutes
        else:
            deadline = began + 60 * arguments.minutes - arguments.predict_seconds
        measured = trainer.train_until(deadline)
        trained = time.monotonic()
        predict(arguments, trainer, test)
        ended = time.monotonic()
    seconds = {"prepare": prepared - began, "train": trained - prepared, "predict": ended - trained}
    configuration = trainer.configuration_manager
    architecture = configuration.configuration["architecture"]["arch_kwargs"]
    result = {
        "name": f"nnU-Net {version('nnunetv2')}",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "compiled_graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "seconds": {"whole": ended - began, **seconds},
        "training": measured,
        "spacing_mm": in_file_order(configuration.spacing, trainer),
        "patch": in_file_order(configuration.patch_size, trainer),
        "batch": configuration.batch_size,
        "batch_dice": configuration.batch_dice,
        "features": list(architecture["features_per_stage"]),
        "strides": architecture["strides"],
        "optimiser": arguments.optimiser,
        "rate": trainer.initial_lr,
        "mirror": arguments.mirror,
        "workers": arguments.workers,
        "fold": arguments.fold,
        "seed": arguments.seed,
        "cases": test,
    }
    (arguments.out / "seconds.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def set_up_torch(device: torch.device, threads: int) -> None:
    """Set what nnUNetv2_train sets; threads: on a CPU."""
    if device.type == "cuda":
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.benchmark = True
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs uncompiled
    else:
        torch.set_num_threads(threads)


def in_file_order(values: list[float], trainer: TimedTrainer) -> list[float]:
    """Return a number for each axis as x, y, z; nnU-Net's are z, y, x with the coarsest axis put first."""
    return [values[axis] for axis in trainer.plans_manager.transpose_backward][::-1]


def parsed() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with dataset.json, images/ and labels/")
    parser.add_argument("out", type=Path, help="where predictions and seconds.json go")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of all, from raw files to predictions")
    length.add_argument("--train-minutes", type=float, help="of training, with what starts it")
    parser.add_argument("--predict-seconds", type=float, default=60, help="kept of --minutes for prediction (60)")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="of the training cases; default: the test cases")
    parser.add_argument("--test", type=int, default=10, help="cases that are not for training (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights (default 0)")
    parser.add_argument("--optimiser", default="sgd", choices=OPTIMISERS)
    parser.add_argument("--lr", type=float, help="first rate (0.01)")
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--spacing", type=float, help="mm, of all axes, instead of the plan's")
    parser.add_argument("--patch", type=int, help="voxels, of all axes, instead of the plan's")
    parser.add_argument("--features", help="channels of each stage, as 16,32,64,96, instead of the plan's")
    parser.add_argument("--batch", type=int, help="instead of the plan's")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1), help="processes (12, as shipped)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="on a GPU")
    parser.add_argument("--work", type=Path, help="keep nnU-Net's own folders here")
    return parser.parse_args()


def set_environment(work: Path, arguments: argparse.Namespace) -> None:
    """Set the variables that nnU-Net and its worker processes read."""
    folders = {f"nnUNet_{kind}": work / kind for kind in ("raw", "preprocessed", "results")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.update({name: str(folder) for name, folder in folders.items()})
    os.environ.update(nnUNet_n_proc_DA=str(arguments.workers))
    if not arguments.compile:  # where it is not set, training compiles on a GPU and prediction does not
        os.environ.update(nnUNet_compile="false")


def prepare(arguments: argparse.Namespace, work: Path, cases: list[str], labels: dict[str, int]) -> dict:
    """Lay out the raw data set, fingerprint, plan and preprocess it; return the plans."""
    raw = work / "raw" / NAME
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    data = arguments.data.resolve()
    for case in cases:
        (raw / "imagesTr" / f"{case}_0000{ENDING}").symlink_to(data / "images" / f"{case}{ENDING}")
        (raw / "labelsTr" / f"{case}{ENDING}").symlink_to(data / "labels" / f"{case}{ENDING}")
    described = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NibabelIO",
    }
    (raw / "dataset.json").write_text(json.dumps(described))
    extract_fingerprint_dataset(1, num_processes=arguments.workers, show_progress_bar=False)
    spacing = None if arguments.spacing is None else (arguments.spacing,) * 3
    plans, _ = plan_experiment_dataset(1, overwrite_target_spacing=spacing)
    change(plans["configurations"][CONFIGURATION], arguments)
    (work / "preprocessed" / NAME / f"{PLANS}.json").write_text(json.dumps(plans))
    preprocessor = PlansManager(plans).get_configuration(CONFIGURATION).preprocessor_class(verbose=False)
    preprocessor.show_progress_bar = False
    preprocessor.run(1, CONFIGURATION, PLANS, num_processes=arguments.workers)
    return plans


def change(configuration: dict, arguments: argparse.Namespace) -> None:
    """Put the patch, batch and channels that were asked for into the plan."""
    if arguments.patch is not None:
        configuration["patch_size"] = [arguments.patch] * 3
    if arguments.batch is not None:
        configuration["batch_size"] = arguments.batch
    if arguments.features is not None:
        features = [int(word) for word in arguments.features.split(",")]
        stages = len(features)
        configuration["architecture"]["arch_kwargs"].update(
            n_stages=stages,
            features_per_stage=features,
            kernel_sizes=[[3, 3, 3]] * stages,
            strides=[[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            n_conv_per_stage=[2] * stages,
            n_conv_per_stage_decoder=[2] * (stages - 1),
        )


def make_trainer(arguments: argparse.Namespace, work: Path, plans: dict, device: torch.device) -> TimedTrainer:
    """Return the timed trainer, with the variants that were asked for, and seed what its weights are drawn from."""
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)
    mirroring = () if arguments.mirror else (nnUNetTrainerNoMirroring,)
    trainer_class = type("TimedTrainer", (TimedTrainer, *mirroring, OPTIMISERS[arguments.optimiser]), {})
    described = json.loads((work / "preprocessed" / NAME / "dataset.json").read_text())
    trainer = trainer_class(plans | {"continue_training": False}, CONFIGURATION, "all", described, device)
    if arguments.lr is not None:
        trainer.initial_lr = arguments.lr
    return trainer


def predict(arguments: argparse.Namespace, trainer: TimedTrainer, cases: list[str]) -> None:
    """Predict the cases with nnU-Net's predictor and the weights trained, uncompiled as nnUNetv2_predict does it."""
    network = getattr(trainer.network, "_orig_mod", trainer.network)
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(use_mirroring=arguments.mirror, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        network, trainer.plans_manager, trainer.configuration_manager, [network.state_dict()], trainer.dataset_json,
        type(trainer).__name__, trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    processes = min(arguments.workers, 3)  # as nnUNetv2_predict has it
    predictor.predict_from_files(
        [[str(arguments.data / "images" / f"{case}{ENDING}")] for case in cases],
        [str(arguments.out / case) for case in cases],
        num_processes_preprocessing=processes, num_processes_segmentation_export=processes,
    )  # fmt: skip


if __name__ == "__main__":
    main()
