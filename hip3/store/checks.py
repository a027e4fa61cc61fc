"""Whether a row is one that a store wrote: the kind of each value, decimals, JSON (STO-2).

SQLite takes any value into any column, so a file that was damaged or edited by hand may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Integer, Table

from hip3.store import schema
from hip3.store.encoding import mapping_of

JSON_COLUMNS = ("inputs", "trail", "evidence", "metadata")
MOST_SHOWN = 60
"""Characters of a wrong value that are shown."""

Check = Callable[[object], bool]


class BadRow(ValueError):
    """A row holds a value that no store wrote: table, row, column, value, what was expected."""


def check_row(table: Table, row: Mapping[str, object]) -> None:
    """Raises BadRow. `row` holds the columns of `table`, decimals as such or as their text."""
    for name, is_right, expected in CHECKS[table.name]:
        if not is_right(row[name]):
            shown = repr(row[name])[:MOST_SHOWN]
            raise BadRow(f"table {table.name}, row {_key(table, row)}: {name} is {shown}, expected {expected}")


def why_wrong(table: Table, row: Mapping[str, object]) -> str | None:
    """As `check_row`; the sentence, or None."""
    try:
        check_row(table, row)
    except BadRow as e:
        return str(e)
    return None


def _key(table: Table, row: Mapping[str, object]) -> str:
    return ", ".join(f"{c.name} {str(row[c.name])[:MOST_SHOWN]}" for c in table.primary_key.columns)


def _check(column: Column[object]) -> tuple[Check, str]:
    if column.name in JSON_COLUMNS:
        return _is_mapping, "a JSON object"
    if isinstance(column.type, schema.DecimalText):
        return _is_decimal, "a decimal"
    if isinstance(column.type, Boolean):
        return (lambda value: value in (0, 1)), "yes or no"
    if isinstance(column.type, BigInteger | Integer):
        return (lambda value: isinstance(value, int)), "a whole number"
    return (lambda value: isinstance(value, str)), "text"


def _nullable(column: Column[object], check: Check, expected: str) -> tuple[Check, str]:
    return ((lambda value: value is None or check(value)), expected) if column.nullable else (check, expected)


def _is_decimal(value: object) -> bool:
    try:
        return isinstance(value, Decimal | str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _is_mapping(value: object) -> bool:
    try:
        return isinstance(value, str) and isinstance(mapping_of(value), dict)
    except msgspec.DecodeError:
        return False


CHECKS: Mapping[str, Sequence[tuple[str, Check, str]]] = {
    name: [(c.name, *_nullable(c, *_check(c))) for c in table.columns] for name, table in schema.METADATA.tables.items()
}
"""Name, check and words of each column, by table."""
