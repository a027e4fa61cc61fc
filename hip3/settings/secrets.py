"""Finds what looks like a raw private key in a configuration file, and masks values for messages (CFG-7, KEY-4).

Names the place, never the value. A false alarm is accepted: nothing that belongs in the file has 64 hex digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from hip3.settings.errors import Problem

_HEX_KEY = re.compile(r"(?<![0-9a-fA-F])(?:0[xX])?([0-9a-fA-F]{64})(?![0-9a-fA-F])")
_USER_PART = re.compile(r"://[^/\s]*@")
"""Of a URL: a user, and perhaps a password."""
_SECRET_NAMES = frozenset(
    {
        "agentkey", "apikey", "apisecret", "apiwalletkey", "key", "mnemonic", "passphrase", "password", "pk", "privatekey",
        "privkey", "rawkey", "secret", "secretkey", "seedphrase", "signerkey", "tradingkey", "walletkey",
    }
)  # fmt: skip
"""Compared without case and separators."""
_REMEDY = (
    "a secret in a configuration file is refused; remove it, treat that key as exposed and replace it, and name its place "
    'with [signer] key_source = {type = "env_var" | "file" | "keystore", ...}'
)
_LONGEST_SHOWN = 80


def is_secret_name(name: str) -> bool:
    """True for a key whose name says that its value is a secret."""
    return re.sub(r"[^a-z0-9]", "", name.lower()) in _SECRET_NAMES


def shown(value: object, name: str = "") -> str:
    """A TOML value as a message may show it: bounded, and masked where it or its name looks like a secret."""
    if is_secret_name(name) or any(True for _ in _hidden_in(value)):
        return "<hidden>"
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "[" + ", ".join(shown(item) for item in value[:5]) + (", ...]" if len(value) > 5 else "]")
    elif isinstance(value, str):
        hidden = _USER_PART.sub("://<hidden>@", value)
        text = f'"{hidden}"' if hidden.isprintable() else ascii(hidden)
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def masked(text: str) -> str:
    """`text` with every run of 64 hex digits hidden; for messages of the TOML parser."""
    return _HEX_KEY.sub("<hidden>", text)


def find_secrets(data: object, path: str = "") -> Iterator[Problem]:
    """Every place of the parsed file whose value looks like a private key or whose name says that it is a secret."""
    if isinstance(data, dict):
        for name, value in data.items():
            place = masked(f"{path}.{name}" if path else str(name))
            if is_secret_name(str(name)) or (not isinstance(value, dict | list) and any(True for _ in _hidden_in(value))):
                yield Problem(place, "<hidden>", _REMEDY)
            else:
                yield from find_secrets(value, place)
            if _HEX_KEY.search(str(name)):
                yield Problem(place, "<hidden>", _REMEDY)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            if any(True for _ in _hidden_in(value)) and not isinstance(value, dict | list):
                yield Problem(f"{path}[{index}]", "<hidden>", _REMEDY)
            else:
                yield from find_secrets(value, f"{path}[{index}]")


def find_secrets_in_text(text: str, data: object) -> Iterator[Problem]:
    """Lines that hold 64 hex digits which `data`, the parsed file, does not account for: comments and broken files."""
    known = set(_hidden_in(data))
    for number, line in enumerate(text.splitlines(), start=1):
        if any(match[1].lower() not in known for match in _HEX_KEY.finditer(line)):
            name, equals, _ = line.partition("=")
            name = masked(name.strip())
            where = f" ({name})" if equals and name and not name.startswith("#") else ""
            yield Problem(f"line {number}{where}", "<hidden>", _REMEDY)


def _hidden_in(value: object) -> Iterator[str]:
    """Every 64 hex digits inside a value, lower case; an integer wider than 128 bits counts, no limit needs one."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _hidden_in(name)
            yield from _hidden_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _hidden_in(each)
    elif isinstance(value, str):
        yield from (match[1].lower() for match in _HEX_KEY.finditer(value))
    elif isinstance(value, int) and value.bit_length() > 128:
        yield f"{abs(value):064x}"
    elif isinstance(value, Decimal) and value.is_finite() and value.adjusted() > 38:  # the same width in digits
        yield f"{value:f}"
