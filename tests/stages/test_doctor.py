"""What the doctor is asked to look at."""

import pytest

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.stages import doctor


def test_an_unknown_topic_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="'dat', expected one of data, net, run"):
        doctor.run(load([]), topic="dat")


def test_hashes_are_compared_of_data_only() -> None:
    with pytest.raises(UserError, match="--verify: belongs to the topic data, not to net"):
        doctor.run(load([]), topic="net", verify=True)
