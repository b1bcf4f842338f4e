"""The numeric type of a run that goes on."""

import pytest
import torch
from torch import nn

from pipeline.config.load import load
from pipeline.stages.precision import resumed_amp

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
UNGUARDED = nn.Conv3d(1, 1, 3, padding=1)


@pytest.mark.parametrize(
    ("begun_in", "word", "device", "goes_on_in"),
    [
        (None, "auto", CPU, None),
        (torch.bfloat16, "auto", GPU, torch.bfloat16),
        (torch.float16, "auto", GPU, torch.float16),
        (torch.float16, "auto", CPU, None),
        (torch.bfloat16, "auto", CPU, None),
        (torch.bfloat16, "bf16", CPU, torch.bfloat16),
    ],
)
def test_a_run_goes_on_in_its_type_where_the_device_computes_it_right(begun_in, word, device, goes_on_in):
    assert resumed_amp(begun_in, load([f"train.amp={word}"]), UNGUARDED, device) == goes_on_in
