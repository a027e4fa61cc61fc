"""Kinds of configuration values: what TOML may hold for a key, and the sentence that says so.

Each kind is both the parser of a TOML value and the attrs validator of the parsed one, so a Settings built in code obeys
the same limits as one read from a file. A kind never quotes the value it refuses: the caller shows it, masked.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
from attrs import frozen
from eth_utils.address import is_checksum_address

from hip3.core.windows import parse_window
from hip3.settings.errors import NotAllowed

KIND = "hip3.kind"
"""Metadata key of a field's kind."""


class Kind(Protocol):
    """`parse` turns a TOML value into the field's value; `allowed` is the sentence shown when it cannot."""

    @property
    def allowed(self) -> str: ...

    def parse(self, raw: object) -> object:
        """The value; raises NotAllowed."""
        ...


@frozen
class Whole:
    """A whole number. TOML booleans and 3.0 are refused."""

    low: int
    high: int | None = None

    @property
    def allowed(self) -> str:
        upper = "" if self.high is None else f" to {self.high}"
        return f"a whole number from {self.low}{upper}" if upper else f"a whole number of at least {self.low}"

    def parse(self, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise NotAllowed(self.allowed)
        if raw < self.low or (self.high is not None and raw > self.high):
            raise NotAllowed(self.allowed)
        return raw


_PLAIN_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{1,20})?")


@frozen
class Number:
    """An exact decimal, from a TOML number or a plain string of digits ("0.05"); never nan, inf or an exponent in text."""

    low: Decimal
    high: Decimal | None = None
    above_low: bool = False

    @property
    def allowed(self) -> str:
        lower = f"above {self.low}" if self.above_low else f"of at least {self.low}"
        return f"a number {lower}" + ("" if self.high is None else f" and at most {self.high}")

    def parse(self, raw: object) -> Decimal:
        if isinstance(raw, bool) or not isinstance(raw, int | str | Decimal):
            raise NotAllowed(self.allowed)
        if isinstance(raw, str) and _PLAIN_NUMBER.fullmatch(raw) is None:
            raise NotAllowed(self.allowed)
        try:
            value = Decimal(raw)
        except InvalidOperation:
            raise NotAllowed(self.allowed) from None
        if not value.is_finite() or abs(value.adjusted()) > 20:  # a wire number has at most 20 digits before the point
            raise NotAllowed(self.allowed)
        if value < self.low or (self.above_low and value == self.low) or (self.high is not None and value > self.high):
            raise NotAllowed(self.allowed)
        return value


@frozen
class Flag:
    """true or false; "yes" and 1 are refused."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def parse(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise NotAllowed(self.allowed)
        return raw


@frozen
class Choice:
    """One value of an enumeration."""

    of: type[enum.Enum]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(f'"{member.value}"' for member in self.of)

    def parse(self, raw: object) -> enum.Enum:
        if isinstance(raw, self.of):
            return raw
        if not isinstance(raw, str):
            raise NotAllowed(self.allowed)
        try:
            return self.of(raw)
        except ValueError:
            raise NotAllowed(self.allowed) from None


@frozen
class Text:
    """Text that matches a pattern as a whole; `what` says it in words."""

    pattern: str
    what: str

    @property
    def allowed(self) -> str:
        return self.what

    def parse(self, raw: object) -> str:
        if not isinstance(raw, str) or re.fullmatch(self.pattern, raw) is None:
            raise NotAllowed(self.allowed)
        return raw


@frozen
class Address:
    """An account address; kept in lower case, the form that the venue hashes and echoes (PROTOCOL 4)."""

    @property
    def allowed(self) -> str:
        return "an address: 0x and 40 hex digits (mixed case must have a right EIP-55 checksum), not the zero address"

    def parse(self, raw: object) -> str:
        if not isinstance(raw, str) or re.fullmatch(r"0x[0-9a-fA-F]{40}", raw) is None or int(raw, 16) == 0:
            raise NotAllowed(self.allowed)
        digits = raw[2:]
        if digits not in {digits.lower(), digits.upper()} and not is_checksum_address(raw):
            raise NotAllowed(self.allowed)
        return raw.lower()


@frozen
class Url:
    """A base URL without user, password, query or fragment; plain (ws, http) only towards this machine."""

    schemes: tuple[str, str]
    """The encrypted scheme and the plain one."""

    @property
    def allowed(self) -> str:
        secure, plain = self.schemes
        return f"{secure}://host, or {plain}://127.0.0.1:port on this machine; without user, password, query or fragment"

    def parse(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise NotAllowed(self.allowed)
        try:
            parts = urlsplit(raw)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise NotAllowed(self.allowed) from None
        if not host or parts.username is not None or parts.query or parts.fragment or port == 0:
            raise NotAllowed(self.allowed)
        if re.search(r"[\s\x00-\x1f@]", raw) is not None:
            raise NotAllowed(self.allowed)
        if parts.scheme != self.schemes[0] and not (parts.scheme == self.schemes[1] and is_loopback(host)):
            raise NotAllowed(self.allowed)
        return raw.rstrip("/")


class PostgresUrl:
    """Where a PostgreSQL database is. Never a password: it is taken from PGPASSWORD or ~/.pgpass, as every client does."""

    allowed = "postgresql://[user@]host[:port]/database, the password in PGPASSWORD or ~/.pgpass and not here"

    def parse(self, raw: object) -> str:
        if not isinstance(raw, str) or re.search(r"[\s\x00-\x1f]", raw) is not None:
            raise NotAllowed(self.allowed)
        try:
            parts = urlsplit(raw)
            is_whole = bool(parts.hostname) and parts.port != 0 and len(parts.path) > 1
        except ValueError:
            raise NotAllowed(self.allowed) from None
        if parts.scheme != "postgresql" or not is_whole or parts.password is not None or parts.query or parts.fragment:
            raise NotAllowed(self.allowed)
        return raw


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses; no name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@frozen
class TextList:
    """A list of texts of one kind, without repeats; an empty list is refused because it could mean all or none."""

    item: Text

    @property
    def allowed(self) -> str:
        return f"a list, not empty and without repeats, of: {self.item.allowed}"

    def parse(self, raw: object) -> tuple[str, ...]:
        if not isinstance(raw, list | tuple) or not raw:
            raise NotAllowed(self.allowed)
        items = tuple(self.item.parse(each) for each in raw)
        if len(set(items)) != len(items):
            raise NotAllowed(self.allowed)
        return items


@frozen
class Windows:
    """A list of windows of the week in UTC; kept as written."""

    @property
    def allowed(self) -> str:
        return 'a list of windows in UTC, such as "13:30-20:00", "Mon-Fri 13:30-20:00" or "Fri 22:00-02:00"'

    def parse(self, raw: object) -> tuple[str, ...]:
        if not isinstance(raw, list | tuple) or not raw or not all(isinstance(each, str) for each in raw):
            raise NotAllowed(self.allowed)
        try:
            for each in raw:
                parse_window(each)
        except ValueError as e:
            raise NotAllowed(f"{self.allowed}; {e}") from None
        return tuple(raw)


def _validator(kind: Kind, *, optional: bool) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        try:
            kind.parse(value)
        except NotAllowed as refused:
            raise NotAllowed(f"{attribute.name}: {refused.allowed}") from None

    return check


def setting(kind: Kind, *, default: object = attrs.NOTHING) -> Any:
    """An attrs field for one configuration key. A default of None makes the key optional."""
    return attrs.field(default=default, validator=_validator(kind, optional=default is None), metadata={KIND: kind})
