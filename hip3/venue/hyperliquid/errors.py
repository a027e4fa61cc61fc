"""Errors of the venue client. Each says where, what was found, what was expected; none ever carries a secret.

*Their* errors (a frame or an answer that cannot be read) are `WireError`; *ours* (an action that must not be signed, a
market that is not what the configuration says) have their own types, so a handler never confuses the two.
"""

from __future__ import annotations

EXCERPT_CHARS = 200
"""How much of a foreign text an error quotes: enough to recognise a frame, too little to fill a log."""


def excerpt(value: object) -> str:
    """`repr` of a foreign value, cut to EXCERPT_CHARS."""
    # A slice first: the repr of a 1 MB frame would be built only to be thrown away.
    text = repr(value[: EXCERPT_CHARS + 1]) if isinstance(value, str | bytes) else repr(value)
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


class WireError(Exception):
    """Text of the venue that could not be read: `where` it was, `what` was wrong, and a bounded excerpt of it."""

    def __init__(self, where: str, what: str, found: object) -> None:
        self.where = where
        self.what = what
        self.excerpt = excerpt(found)
        super().__init__(f"{where}: {what}; found {self.excerpt}")


class MetadataError(Exception):
    """A market is not what the configuration says, or may not be traded (META-3)."""


class ActionError(Exception):
    """An action that is not signed or cannot be serialised."""


class UnsupportedAction(ActionError):
    """An action type, or an option of one, that is not listed (PRD-6)."""


class MalformedAction(ActionError):
    """A field of an action breaks the venue's schema; the venue would answer 422."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"action{path}: {problem}")


class NoTradingKey(Exception):
    """Something had to be signed and this process only observes (KEY-3)."""


class BadKeyText(Exception):
    """Text that is no private key. The message describes the expected form and never shows the value (KEY-4)."""


class BackendMissing(Exception):
    """The C secp256k1 library is not there; signing without it is a hundred times slower, so nothing starts (SIG-5)."""


class ClockSkewError(Exception):
    """The local clock is too far from the venue's (NON-2)."""
