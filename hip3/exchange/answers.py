"""What a client gets back from a request, whatever carried it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import frozen

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@frozen
class Reply:
    """Status and body of an HTTP answer; a WebSocket post carries the same body in its envelope."""

    status: int
    body: str
    content_type: str = JSON


@frozen
class Cut:
    """No answer: the connection goes."""


Answer = Reply | Cut
AnswerTo = Callable[[Answer], None]
"""Called once, or never where the answer is lost."""


def dump(value: Any) -> str:
    """Compact JSON, as the venue sends it."""
    return json.dumps(value, separators=(",", ":"))


def ok_json(value: Any) -> Reply:
    return Reply(200, dump(value))


def plain(status: int, text: str) -> Reply:
    return Reply(status, text, TEXT)
