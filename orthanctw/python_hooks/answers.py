"""Answers of scripts that are not what they should be (level 4)."""

from __future__ import annotations


def described(answer: object) -> str:
    """For the log: a number, or the type of anything else, whose text would be the script's work or very long."""
    if isinstance(answer, int) and answer.bit_length() < 64:
        return int.__repr__(answer)
    return type(answer).__name__
