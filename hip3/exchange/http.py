"""The two POST routes without a server: content type, JSON, schema, IP weight, then the exchange (PROTOCOL 3, 12)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from hip3.exchange.answers import Answer, AnswerTo, Reply, plain
from hip3.exchange.exchange import Exchange
from hip3.exchange.info import InternalError, query_type, weight_of
from hip3.exchange.requests import parse_json
from hip3.exchange.texts import HTTP_400, HTTP_415, HTTP_422, JsonError, SchemaError

WINDOW_MS = 60_000
ITEMS_PER_WEIGHT = 40  # an action weighs 1 + floor(n / 40), PROTOCOL 8


class WeightWindow:
    """REST weight of the last minute; all clients of a loopback exchange share one IP."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spent: deque[tuple[int, int]] = deque()
        self._total = 0

    def take(self, weight: int, now_ms: int) -> bool:
        """Spends `weight` at `now_ms`; False, and nothing spent, where the minute has no room for it."""
        while self._spent and self._spent[0][0] <= now_ms - WINDOW_MS:
            self._total -= self._spent.popleft()[1]
        if self._total + weight > self._limit:
            return False
        self._spent.append((now_ms, weight))
        self._total += weight
        return True


class Routes:
    """`/info` and `/exchange` of one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._window = WeightWindow(exchange.config.ip_weight_per_min)

    async def handle(self, path: str, content_type: str, body: bytes) -> Answer:
        """The answer to a POST. Never returns where the answer is lost (a fault): the client's time-out is its problem."""
        start: Callable[[Any, AnswerTo], None]
        match path:
            case "/info":
                start = self._exchange.ask
            case "/exchange":
                start = self._exchange.submit
            case _:
                return plain(404, "Not Found")
        if not _is_json(content_type):
            return plain(415, HTTP_415)
        try:
            value = parse_json(body)
            if not self._window.take(_weight(path, value), self._exchange.elapsed_ms()):
                self._exchange.over_weight += 1
                return Reply(429, "null")
            return await _answer_of(start, value)
        except JsonError:
            return plain(400, HTTP_400)
        except SchemaError:
            return plain(422, HTTP_422)
        except InternalError:
            return Reply(500, "null")


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _weight(path: str, value: Any) -> int:
    if path == "/info":
        return weight_of(query_type(value))
    action = value.get("action") if isinstance(value, dict) else None
    items = [v for v in action.values() if isinstance(v, list)] if isinstance(action, dict) else []
    return 1 + max((len(item) for item in items), default=0) // ITEMS_PER_WEIGHT


async def _answer_of(start: Callable[[Any, AnswerTo], None], value: Any) -> Answer:
    arrived = trio.Event()
    answers: list[Answer] = []

    def take(answer: Answer) -> None:
        answers.append(answer)
        arrived.set()

    start(value, take)
    await arrived.wait()
    return answers[0]
