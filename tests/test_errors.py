"""Exit codes are an interface: schedulers and scripts read them."""

from pipeline.errors import ExitCode


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "SOME_FAILED": 1,
        "USER_ERROR": 2,
        "INTERNAL_ERROR": 3,
        "INTERRUPTED": 75,
    }
