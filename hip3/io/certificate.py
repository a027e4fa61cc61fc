"""The flat certificate: what was asked of every dex and when, what was sent, the venue's answers, what is left (STOP-2).

Nothing is called flat without one. It is a record and decides nothing.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Asked:
    """One question: what was asked of which dex, when (wall ms), and what the venue said; the newest of its kind."""

    dex: str
    what: str
    at_ms: int
    answer: str


@frozen
class Sent:
    """One action: what it did, when its answer came (wall ms), and the answer, shortened."""

    what: str
    at_ms: int
    answer: str


@frozen
class FlatCertificate:
    """What was asked, done and left. `flat` is True only where the venue's last answers, of every dex, list nothing."""

    account: str
    reason: str
    """Why it was flattened, or looked at."""
    flat: bool
    started_ms: int
    finished_ms: int
    asked: tuple[Asked, ...]
    sent: tuple[Sent, ...]
    cancelled: tuple[str, ...]
    closed: tuple[str, ...]
    orders_sent: int
    """Closing orders sent, answered or not."""
    residual: tuple[str, ...]
    """What is left, one sentence each; "not known" entries included."""
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For machines. Times are Unix ms."""
        return {
            "account": self.account,
            "reason": self.reason,
            "flat": self.flat,
            "started_ms": self.started_ms,
            "finished_ms": self.finished_ms,
            "asked": [{"dex": a.dex or "main", "what": a.what, "at_ms": a.at_ms, "answer": a.answer} for a in self.asked],
            "sent": [{"what": s.what, "at_ms": s.at_ms, "answer": s.answer} for s in self.sent],
            "cancelled": list(self.cancelled),
            "closed": list(self.closed),
            "orders_sent": self.orders_sent,
            "residual": list(self.residual),
            "problems": list(self.problems),
        }
