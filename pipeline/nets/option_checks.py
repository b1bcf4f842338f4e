"""Options of a network that would make no network, refused in a sentence."""

from collections.abc import Sequence

from pipeline.errors import UserError


def check_count(key: str, given: object, multiple_of: int = 1) -> None:
    """Refuse what is no whole number of at least 1, or no multiple of `multiple_of`."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 1 or given % multiple_of:
        such = "whole number of at least 1" if multiple_of == 1 else f"multiple of {multiple_of}, from there up"
        raise UserError(f"net.options.{key}: {given}; expected a {such}; change it or leave it out.")


def check_three(key: str, given: object, multiple_of: int = 1) -> None:
    """Refuse what is no list of three such numbers."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 3:
        raise UserError(f"net.options.{key}: {given}; expected three whole numbers, the finest stage first.")
    for count in given:
        check_count(key, count, multiple_of)


def check_probability(key: str, given: object) -> None:
    """Refuse what is no number from 0 up to, and not including, 1."""
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given < 1:
        raise UserError(f"net.options.{key}: {given}; expected a number from 0 up to but not 1, such as 0.1.")
