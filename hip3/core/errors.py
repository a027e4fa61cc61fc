"""Looking into exception groups: a plain `except X` misses them, and a person wants the first cause."""

from __future__ import annotations


def first_leaf(error: BaseException) -> BaseException:
    """The first error of a group, however deep; the error itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
