"""A state folder that this user may not read, or that is none (LESSONS 3: what cannot be read is not called empty)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hip3.ops.agents import AgentRetired, refuse_retired
from hip3.ops.journal_file import journals
from hip3.ops.stores import known_sources
from hip3.store.errors import StoreUnusable


def test_a_file_in_the_place_of_a_folder_is_not_an_empty_folder(tmp_path: Path) -> None:
    """OPS-1: journals, stores and the record of agents say what is wrong; a folder that is missing is empty."""
    assert (journals(tmp_path), known_sources(tmp_path, None, {})) == ([], [])
    (tmp_path / "journal").write_text("")
    (tmp_path / "store").write_text("")
    with pytest.raises(NotADirectoryError):
        journals(tmp_path)
    with pytest.raises(StoreUnusable, match="store: Not a directory; a file is where a folder must be: move it away"):
        known_sources(tmp_path, None, {})
    with pytest.raises(AgentRetired, match="store is a file, the state folder is expected; set HIP3_STATE_DIR to a folder"):
        refuse_retired(tmp_path / "store", "0x12")
