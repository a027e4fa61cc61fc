"""Where the store of a run is and how it is kept, from the configuration (CFG-3, STO-1, STO-6)."""

from __future__ import annotations

from pathlib import Path

from hip3.ops.keep import store_config, store_place
from hip3.settings.load import from_text


def test_each_network_has_a_file_of_its_own(tmp_path: Path) -> None:
    """STO-1, PRD-1: what paper wrote is never read by another network."""
    place = store_place(from_text('network = "paper"'), tmp_path)
    assert (place.file, place.spool) == (tmp_path / "store" / "paper.db", tmp_path / "store" / "paper.db.spool")


def test_the_url_chooses_the_server(tmp_path: Path) -> None:
    """STO-1: PostgreSQL by URL; the spool stays on this machine, because a commit waits for no server."""
    text = 'network = "paper"\n[store]\nurl = "postgresql://hip3@127.0.0.1:5432/books"'
    place = store_place(from_text(text), tmp_path)
    assert place.file is None
    assert (place.url.get_backend_name(), place.url.host, place.url.database) == ("postgresql", "127.0.0.1", "books")
    assert place.spool == tmp_path / "store" / "paper.spool"


def test_the_keys_of_the_store_reach_it(tmp_path: Path) -> None:
    """STO-4, STO-6: commit interval, room and backups are those of the file; no backups where none are kept."""
    text = 'network = "paper"\n[store]\ngroup_commit_ms = 5\nqueue_rows = 77\nbackup_keep = 3'
    config = store_config(from_text(text), tmp_path)
    assert (config.group_commit_ms, config.queue_rows, config.backup_keep) == (5, 77, 3)
    assert config.backups == tmp_path / "store" / "backups" / "paper"
    assert store_config(from_text('network = "paper"\n[store]\nbackup_keep = 0'), tmp_path).backups is None
