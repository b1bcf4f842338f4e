"""Settings that all tests share, and one real CT."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("hounsfield", deadline=None)  # a slow machine is no failure
settings.load_profile("hounsfield")

HEAD_NECK = Path(__file__).parents[1] / "examples" / "head_neck"


@pytest.fixture(scope="session")
def real_image() -> Path:
    """A head-and-neck CT, int16 HU."""
    return HEAD_NECK / "images" / "hn_001.nii.gz"


@pytest.fixture(scope="session")
def real_label() -> Path:
    """The label map of that CT, values 0 to 5."""
    return HEAD_NECK / "labels" / "hn_001.nii.gz"


@pytest.fixture
def terminal_heard() -> Iterator[None]:
    """Hear Ctrl-C and SIGHUP, also where the tests run in the background or under nohup: commands inherit that."""
    given = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in given.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
