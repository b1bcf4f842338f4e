"""Signals are noted, and acted on between steps."""

import os
import signal

import pytest

from pipeline.training.stop import StopRequest, leave_closed_outputs

pytestmark = pytest.mark.usefixtures("terminal_heard")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_noted_and_nothing_else(number: signal.Signals) -> None:
    with StopRequest() as stop:
        assert stop.asked is None
        os.kill(os.getpid(), number)
        assert stop.asked == number.name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_a_script_or_nohup_has_ignored_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.asked is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked == "SIGTERM"
    assert signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_output_that_nobody_takes_leads_nowhere_and_another_stays(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_end, closed = os.openpty() if is_terminal else os.pipe()
    reader, read = os.pipe()
    monkeypatch.setattr("pipeline.training.stop.OUTPUTS", (closed, read))
    os.close(other_end)
    with pytest.raises(OSError):
        os.write(closed, b"lost")
    leave_closed_outputs()
    assert os.write(closed, b"lost") == os.write(read, b"told") == 4
    assert os.read(reader, 10) == b"told"
    for each in (closed, reader, read):
        os.close(each)


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
