"""Configuration: one schema, loaded, checked and hashed before anything starts."""

from hip3.settings.canonical import config_hash, plain, to_toml
from hip3.settings.caps import Cap, Caps, effective_caps
from hip3.settings.describe import StartLine, describe, endpoints_of
from hip3.settings.errors import EXIT_CONFIGURATION, ConfigError, Problem
from hip3.settings.load import LoadedSettings, from_text, load, load_for_check, packaged_config
from hip3.settings.schema import Settings

__all__ = [
    "EXIT_CONFIGURATION",
    "Cap",
    "Caps",
    "ConfigError",
    "LoadedSettings",
    "Problem",
    "Settings",
    "StartLine",
    "config_hash",
    "describe",
    "effective_caps",
    "endpoints_of",
    "from_text",
    "load",
    "load_for_check",
    "packaged_config",
    "plain",
    "to_toml",
]
