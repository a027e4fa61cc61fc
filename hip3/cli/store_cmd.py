"""`hip3 store backup|restore|rebuild|copy|migrate|info`: the state store by hand (STO-5, STO-6).

Backup and info work beside a running bot; what writes takes the store's lock, and is refused while a bot holds it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
from attrs import frozen
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import printable
from hip3.core.clock import Clock
from hip3.io.clock import SystemClock
from hip3.ops.journal_file import iso_text, state_dir
from hip3.ops.keep import backup_folder, store_place
from hip3.settings import ConfigError, load_for_check
from hip3.settings.errors import NotAllowed
from hip3.settings.fields import PostgresUrl
from hip3.settings.schema import Settings
from hip3.store.backup import backups_in, describe, file_of, make_backup
from hip3.store.database import Place, place_of_file
from hip3.store.errors import StoreError, StoreInUse
from hip3.store.lock import take_lock
from hip3.store.repository import Repository
from hip3.store.salvage import rebuild as rebuild_store
from hip3.store.store import open_applier, restore_store
from hip3.store.transfer import copy_store
from hip3.store.versions import program_versions

EXIT_OK, EXIT_CONFIGURATION, EXIT_REFUSED, EXIT_IN_USE = 0, 2, 3, 6  # END-3

Answer = tuple[list[str], Mapping[str, Any]]
"""Lines for people, and the object for machines."""


@frozen
class At:
    """What a command works on."""

    settings: Settings
    state: Path
    clock: Clock

    @property
    def place(self) -> Place:
        return store_place(self.settings, self.state)

    def place_with(self, url: str | None) -> Place:
        """The store of the same network at another `store.url`; at None the file."""
        store = attrs.evolve(self.settings.store, url=url)
        return store_place(attrs.evolve(self.settings, store=store), self.state)

    @property
    def backups(self) -> Path:
        return backup_folder(self.settings, self.state)


def answer(name: str, config: Path | None, work: Callable[[At], Answer], *, as_json: bool) -> int:
    """Runs `work` on the store that the configuration means, prints what it says, and returns the exit code."""
    try:
        at = At(load_for_check(config, os.environ).settings, state_dir(os.environ), SystemClock())
        lines, found = work(at)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except (StoreError, OSError) as e:
        return _failed(name, str(e), EXIT_IN_USE if isinstance(e, StoreInUse) else EXIT_REFUSED, as_json=as_json)
    code = int(found.get("exit_code", EXIT_OK))
    if as_json and found:
        print(json.dumps({"exit_code": code} | dict(found), sort_keys=True))
    elif lines:
        print("\n".join(map(printable, lines)))
    return code


def _failed(name: str, message: str, code: int, *, as_json: bool) -> int:
    print(printable(f"hip3 {name}: {message}"), file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": code, "error": message}, sort_keys=True))
    return code


def backup(*, config: Config = None, as_json: Json = False) -> int:
    """Copy the store, while a bot runs or not, and read the copy back; a copy that is not whole gets no name.

    Exit code 0; 2: configuration; 3: no copy was made. Of PostgreSQL: use pg_dump.

    Example: hip3 store backup --config config/testnet.toml
    """

    def work(at: At) -> Answer:
        repository = Repository(at.place)
        try:
            behind = repository.behind()
        finally:
            repository.close()
        path, contents = make_backup(file_of(at.place), at.backups, at.clock.wall_ms())
        found = describe(contents) | {"backup": str(path), "groups_in_spool": behind}
        lines = [f"backup   {path}", f"contents {_contents(found)}", *_behind(behind)]
        return lines, found

    return answer("store backup", config, work, as_json=as_json)


def restore(
    backup: Annotated[Path, Parameter(help="The file of a backup, such as backup-20260101-0000.db.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Put a backup in the place of the store, which is kept beside it. The bot must not be running.

    Exit code 0; 2: configuration; 3: the backup is damaged, unfinished or newer than this version, and nothing was changed;
    6: a bot writes to the store.

    Example: hip3 store restore ~/.local/state/hip3/store/backups/paper/backup-20260101-0000.db
    """

    def work(at: At) -> Answer:
        place = at.place
        file_of(place)
        lock = take_lock(place.lock_file, os.getpid())
        try:
            kept, contents = restore_store(place, backup.expanduser().absolute(), at.clock)
        finally:
            lock.release()
        found = describe(contents) | {"store": place.name, "replaced": str(kept) if kept else None}
        lines = [f"restored {place.name}", f"contents {_contents(found)}"]
        lines += [f"replaced {kept}"] if kept else []
        lines.append("next     the venue is newer than the copy: the next start compares both and says what differs")
        return lines, found

    return answer("store restore", config, work, as_json=as_json)


def rebuild(*, config: Config = None, as_json: Json = False) -> int:
    """Build the store anew from what is readable of it and of its spool; the old files are kept beside it.

    Exit code 0, also where something was lost, which is listed; 2: configuration; 3: not rebuilt; 6: a bot writes to it.

    Example: hip3 store rebuild
    """

    def work(at: At) -> Answer:
        place = at.place
        file_of(place)
        lock = take_lock(place.lock_file, os.getpid())
        try:
            done = rebuild_store(place, at.clock)
        finally:
            lock.release()
        found = attrs.asdict(done) | {"store": place.name, "kept": str(done.kept)}
        lines = [f"rebuilt  {place.name}: {sum(done.rows.values())} rows, {done.groups} groups of the spool"]
        lines += [f"kept     {done.kept}", *(f"lost     {sentence}" for sentence in done.lost)]
        return lines if done.lost else [*lines, "lost     nothing"], found

    return answer("store rebuild", config, work, as_json=as_json)


def copy(
    *,
    to: Annotated[str, Parameter(help="Where to: postgresql://[user@]host[:port]/database, or a file.")],
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Copy the whole store into an empty place, from the file to a server or back, and compare every row of both.

    The bot must not be running. The store stays as it is; say in the configuration which one the next start takes.

    Exit code 0: both hold the same; 2: configuration, or --to is no place; 3: the target is not empty or cannot be written,
    or the store is not whole, and the target holds no row; 6: a bot writes to one of the two.

    Example: hip3 store copy --to postgresql://hip3@db.example:5432/hip3
    """
    try:
        wanted = PostgresUrl().parse(to) if "://" in to else Path(to).expanduser().absolute()
    except NotAllowed as e:
        return _failed("store copy", f"--to: expected a file, or {e.allowed}", EXIT_CONFIGURATION, as_json=as_json)

    def work(at: At) -> Answer:
        source = at.place
        target = place_of_file(wanted) if isinstance(wanted, Path) else at.place_with(wanted)
        done = copy_store(source, target, at.clock, at.backups, os.getpid())
        found = {
            "from": source.name,
            "to": target.name,
            "schema_version": program_versions().head,
            "rows": done.rows,
            "groups_applied": done.groups,
            "audit_rows": done.verdict.rows,
            "audit_head": done.verdict.head.hash,
            "whole": done.verdict.is_whole,
        }
        lines = [f"copied   {source.name}", f"to       {target.name}", f"contents {_contents(found)}"]
        lines += [f"spool    {done.groups} groups of it were written to the store first"] if done.groups else []
        same = (
            "whole, the same head in both"
            if done.verdict.is_whole
            else "faults in both, the same: hip3 audit verify names them"
        )
        return [*lines, f"chain    {same}", *_next_step(at, source, target)], found

    return answer("store copy", config, work, as_json=as_json)


def _next_step(at: At, source: Place, target: Place) -> list[str]:
    """What the operator does so that the next start takes the target; from a file to a file it goes on as before."""
    if target.file is None:
        return ["next     put this into the configuration, then hip3 preflight:", "[store]", f'url = "{target.name}"']
    usual = at.place_with(None)
    if source.file is not None:
        return [
            f"next     nothing: a start here takes {source.name}, as before. Elsewhere the copy goes into an empty state",
            f"         folder, as store/{Path(usual.name).name}; never over a store that is there",
        ]
    where = "" if usual.file == target.file else f", and put the file at {usual.name}"
    return [f"next     take `url` out of [store] of the configuration{where}, then hip3 preflight"]


def migrate(*, config: Config = None, as_json: Json = False) -> int:
    """Make the store, or bring it to the schema of this version, with a backup first. A start does the same by itself.

    Exit code 0; 2: configuration; 3: the schema is newer or damaged, and nothing was changed; 6: a bot writes to the store.

    Example: hip3 store migrate
    """

    def work(at: At) -> Answer:
        place = at.place
        lock = take_lock(place.lock_file, os.getpid())
        try:
            open_applier(place, at.clock, at.backups).close()
        finally:
            lock.release()
        head = program_versions().head
        return [f"store    {place.name}: schema {head}"], {"store": place.name, "schema_version": head}

    return answer("store migrate", config, work, as_json=as_json)


def info(*, config: Config = None, as_json: Json = False) -> int:
    """Show the store: where it is, what is in it, its accounts and backups, and what waits in its spool.

    Exit code 0; 2: configuration; 3: there is no store, or it cannot be read.

    Example: hip3 store info --json
    """

    def work(at: At) -> Answer:
        place, repository = at.place, Repository(at.place)
        try:
            size, free = repository.size()
            found: dict[str, Any] = {
                "store": place.name,
                "bytes": size,
                "free_bytes": free,
                "schema_version": program_versions().head,
                "rows": repository.counts(),
                "audit_rows": repository.audit_head().seq,
                "audit_head": repository.audit_head().hash,
                "accounts": {account: _run(repository, account) for account in repository.accounts()},
                "groups_in_spool": repository.behind(),
                "backups": [str(path) for path in backups_in(at.backups)],
            }
        finally:
            repository.close()
        return _info_lines(found), found

    return answer("store info", config, work, as_json=as_json)


def _run(repository: Repository, account: str) -> dict[str, Any] | None:
    run = repository.last_run(account)
    return None if run is None else attrs.asdict(run)


def _info_lines(found: Mapping[str, Any]) -> list[str]:
    lines = [f"store    {found['store']}", f"size     {_size(found)}", f"contents {_contents(found)}"]
    for account, run in found["accounts"].items():
        ended = "did not end in order, or runs" if run["ended_ms"] is None else f"ended {iso_text(run['ended_ms'])}"
        lines.append(f"account  {account}: last run {run['run_id']}, begun {iso_text(run['started_ms'])}, {ended}")
    newest = found["backups"][0] if found["backups"] else "none"
    return [*lines, f"backups  {len(found['backups'])}, the newest: {newest}", *_behind(found["groups_in_spool"])]


def _size(found: Mapping[str, Any]) -> str:
    free = f", of which {found['free_bytes'] / 1e6:.1f} MB wait for new rows" if found["free_bytes"] else ""
    return f"{found['bytes'] / 1e6:.1f} MB{free}"


def _contents(found: Mapping[str, Any]) -> str:
    rows = ", ".join(f"{name} {count}" for name, count in found["rows"].items() if count)
    return f"schema {found['schema_version']}; {rows or 'no rows'}; audit head {found['audit_head'][:16]}"


def _behind(groups: int) -> list[str]:
    """A word about the spool where it is ahead of the database."""
    if not groups:
        return []
    return [f"spool    {groups} groups are not in the database yet: a running bot writes them, else the next start does"]
