"""Fixtures for the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Two shared cores: enough examples to find what a property hides, few enough for the whole suite to stay quick.
settings.register_profile("hip3", derandomize=False, print_blob=True, deadline=None, max_examples=60)
settings.load_profile("hip3")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings and vectors beside a developer's checkout; a user's clone has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the recordings and vectors that lie beside a developer's checkout ({folder.name}/ not found)")
    return folder
