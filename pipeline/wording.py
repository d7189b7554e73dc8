"""Counts as people read them: "1 file", "2 files"."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`number` and `noun`, a regular noun in the singular that is made plural where it must be."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
