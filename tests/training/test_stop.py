"""Signals are noted, and acted on between steps."""

import os
import signal

import pytest

from pipeline.training.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_and_nothing_else(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert stop.asked is None
        os.kill(os.getpid(), number)
        assert stop.asked == number.name


def test_nothing_is_written_where_a_signal_is_caught(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="hounsfield"), StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        assert caplog.records == []


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopRequest(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
