"""nnU-Net's side of `bench/step.py`: its own trainer, loader and augmentation; run by the peers' interpreter.

python -m bench.step_nnunet DATA WORK RESULT.json --steps 0       fingerprint, plan and preprocess into WORK
python -m bench.step_nnunet DATA WORK RESULT.json --steps 150     train on what is there
"""

import argparse
import json
import os
import time
from itertools import pairwise
from pathlib import Path

import torch

from bench.accuracy_nnunet import NAME, PLANS, make_trainer, prepare, set_environment, set_up_torch

AS_SHIPPED = {"optimiser": "sgd", "lr": None, "mirror": True, "compile": True, "seed": 0}


def main() -> None:
    """Prepare, or train and write down what the steps took."""
    arguments = parsed()
    device = torch.device(arguments.device)
    set_up_torch(device, arguments.threads)
    set_environment(arguments.work, arguments)
    if not arguments.steps:
        described = json.loads((arguments.data / "dataset.json").read_text())
        images = {path.name.removesuffix(".nii.gz") for path in (arguments.data / "images").glob("*.nii.gz")}
        prepare(arguments, arguments.work, sorted(images - set(described.get("test", []))), described["labels"])
        return
    plans = json.loads((arguments.work / "preprocessed" / NAME / f"{PLANS}.json").read_text())
    trainer = make_trainer(arguments, arguments.work, plans, device)
    trainer.on_train_start()
    trainer.network.train()
    waited, ends = 0.0, []
    for step in range(arguments.steps):
        began = time.monotonic()
        batch = next(trainer.dataloader_train)
        if step >= arguments.warmup:
            waited += time.monotonic() - began
        trainer.train_step(batch)  # ends with the loss on the CPU, so that a GPU is waited for
        ends.append(time.monotonic())
    trainer.on_train_end()
    times = ends[arguments.warmup - 1 :]
    result = {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "step_s": [later - earlier for earlier, later in pairwise(times)],
        "share": {"waiting": waited / (times[-1] - times[0])},
        "first_step_ended": ends[0],
    }
    arguments.result.write_text(json.dumps(result))


def parsed() -> argparse.Namespace:
    """Return the command's arguments, with what `bench.accuracy_nnunet` asks for beside them as shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=1, help="steps that do not count")
    parser.add_argument("--spacing", type=float)
    parser.add_argument("--patch", type=int)
    parser.add_argument("--features")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1), help="processes (12, as shipped)")
    return parser.parse_args(namespace=argparse.Namespace(**AS_SHIPPED))


if __name__ == "__main__":
    main()
