"""From parsed TOML to Settings: cattrs with unknown keys forbidden, every problem collected (CFG-2).

Refuses what is unknown, misplaced or empty, and says where a misplaced key belongs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from hip3.settings.errors import NotAllowed, Problem
from hip3.settings.fields import KIND, Kind
from hip3.settings.schema import KEY_SOURCES, LATER_SECTIONS, Detector, KeySource, Market, Settings
from hip3.settings.secrets import masked, shown

Path = tuple[str | int, ...]

_KEY_SOURCE_FORM = (
    'one of {type = "env_var", var_name = "..."}, {type = "file", path = "..."}, '
    '{type = "keystore", path = "...", passphrase_env = "..."}'
)
_MARKETS_FORM = 'an array of tables, at least one: [[markets]] with coin = "xyz:SNDK"'


def dotted(path: Path) -> str:
    """`("markets", 0, "coin")` is `markets[0].coin`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def structure(data: Mapping[str, object]) -> tuple[Settings | None, list[Problem]]:
    """Settings from parsed TOML, and what is wrong with it.

    With problems, the Settings are those of the remaining keys (for finding contradictions among them), or None where
    even these make none.
    """
    errors = _errors(data)
    if not errors:
        return _CONVERTER.structure(data, Settings), []
    found = [each for path, error in errors for each in _problems(data, path, error)]
    remaining = _without(data, [path for path, _ in found])
    settings = None if _errors(remaining) else _CONVERTER.structure(remaining, Settings)
    return settings, [problem for _, problem in found]


def places_of(name: str) -> list[str]:
    """Where in the file a key of this name has its place, in words: `in [position]`."""
    return [place for place, keys in _PLACES.items() if name in keys]


def _errors(data: object) -> list[tuple[Path, Exception]]:
    try:
        _CONVERTER.structure(data, Settings)
    except (cattrs.ClassValidationError, cattrs.IterableValidationError) as group:
        return list(_leaves(group, ()))
    return []


def _leaves(error: Exception, path: Path) -> Iterator[tuple[Path, Exception]]:
    if isinstance(error, cattrs.ClassValidationError):
        named, rest = error.group_exceptions()
        for each, note in named:
            yield from _leaves(each, (*path, note.name))
    elif isinstance(error, cattrs.IterableValidationError):
        indexed, rest = error.group_exceptions()
        for each, at in indexed:
            yield from _leaves(each, (*path, at.index))
    else:
        yield path, error
        return
    for each in rest:
        yield from _leaves(each, path)


def _problems(data: Mapping[str, object], path: Path, error: Exception) -> Iterator[tuple[Path, Problem]]:
    """What to tell the user about one error, each with the part of the file that must be set aside for it."""
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        table = _at(data, path)
        for name in sorted(error.extra_fields):
            place = masked(dotted((*path, name)))
            yield (*path, name), Problem(place, shown(table[name], name), _unknown(name, path, error.cl))
    elif isinstance(error, KeyError):
        yield path[:-1], Problem(dotted(path), None, "required here")
    elif isinstance(error, NotAllowed):
        yield path, Problem(dotted(path), shown(_at(data, path), str(path[-1])), error.allowed)
    else:
        raise error


def _unknown(name: str, path: Path, cls: type) -> str:
    """Why a key is refused, and what to do about it."""
    if not path and name in LATER_SECTIONS:
        return "this section has no effect in this version and is refused; remove it"
    elsewhere = places_of(name)
    if elsewhere:
        return f"{'unknown here' if path else 'not a key of the top level'}; it belongs {' or '.join(elsewhere)}"
    known = sorted(attribute.name for attribute in attrs.fields(cls))
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    return f"unknown key; known here: {', '.join(known)}"


def _at(data: object, path: Path) -> Any:
    for part in path:
        if isinstance(part, int) and isinstance(data, list) and part < len(data):
            data = data[part]
        elif isinstance(data, Mapping):
            data = data.get(part)
        else:
            return None
    return data


def _without(data: Mapping[str, object], wrong: list[Path]) -> dict[str, object]:
    """`data` without what is wrong; a list with a wrong item goes as a whole, and so does a table left empty."""

    def keep(table: Mapping[str, object], path: Path) -> dict[str, object]:
        kept: dict[str, object] = {}
        for name, value in table.items():
            here = (*path, name)
            broken_list = isinstance(value, list) and any(each[: len(here)] == here for each in wrong)
            if here not in wrong and not broken_list:
                kept[name] = keep(value, here) if isinstance(value, dict) else value
        return {name: value for name, value in kept.items() if value != {}}

    return keep(data, ())


def _table(cls: type, name: str) -> Callable[[object, Any], Any]:
    def hook(raw: object, _: Any) -> Any:
        if not isinstance(raw, dict):
            raise NotAllowed(f"a table: [{name}]")
        if not raw:
            raise NotAllowed("an empty section; set a key in it or remove it")
        return _CONVERTER.structure(raw, cls)

    return hook


def _markets(raw: object, _: Any) -> tuple[Market, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(each, dict) for each in raw):
        raise NotAllowed(_MARKETS_FORM)
    return _CONVERTER.structure(raw, tuple[Market, ...])


def _key_source(raw: object, _: Any) -> KeySource:
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str) or raw["type"] not in KEY_SOURCES:
        raise NotAllowed(_KEY_SOURCE_FORM)
    fields = {name: value for name, value in raw.items() if name != "type"}
    return _CONVERTER.structure(fields, KEY_SOURCES[raw["type"]])


def _value(kind: Kind) -> Callable[[object, Any], Any]:
    return lambda raw, _: kind.parse(raw)


def _hook_of(attribute: attrs.Attribute[Any]) -> Callable[[object, Any], Any]:
    if attribute.name == "markets":
        return _markets
    if attribute.name == "key_source":
        return _key_source
    if KIND in attribute.metadata:
        return _value(attribute.metadata[KIND])
    return _table(section_class(attribute), _SECTION_NAMES[section_class(attribute)])


def section_class(attribute: attrs.Attribute[Any]) -> type:
    """The attrs class behind a section of Settings, `Paper | None` included."""
    candidates = [attribute.type, *getattr(attribute.type, "__args__", ())]
    return next(each for each in candidates if isinstance(each, type) and attrs.has(each))


def sections(cls: type = Settings, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Dotted name and class of every section, a section within another one after it; `[[markets]]` is none."""
    for attribute in attrs.fields(cls):
        if KIND not in attribute.metadata and attribute.name not in ("markets", "key_source"):
            own = section_class(attribute)
            yield f"{prefix}{attribute.name}", own
            yield from sections(own, f"{prefix}{attribute.name}.")


def _class_hook(cls: type) -> Callable[[Mapping[str, Any], Any], Any]:
    overrides = {attribute.name: override(struct_hook=_hook_of(attribute)) for attribute in attrs.fields(cls)}
    return make_dict_structure_fn(
        cls,
        _CONVERTER,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **overrides,  # type: ignore[arg-type]  # the overrides share **kwargs with the flags above
    )


def _places() -> dict[str, set[str]]:
    places = {"at the top of the file, before the first [section]": {a.name for a in attrs.fields(Settings)}}
    places["in [[markets]]"] = {a.name for a in attrs.fields(Market)}
    for name, cls in sections():
        places[f"in [{name}]"] = {a.name for a in attrs.fields(cls)}
    return places


for _cls in (Settings, Market, Detector, *KEY_SOURCES.values()):
    attrs.resolve_types(_cls)
_SECTION_NAMES = {cls: name for name, cls in sections()}
_CONVERTER = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
_CONVERTER.register_structure_hook_factory(attrs.has, _class_hook)
_PLACES = _places()
