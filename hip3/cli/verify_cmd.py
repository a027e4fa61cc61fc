"""`hip3 verify`: the ten items of the runbook on a real session, with the PASS/FAIL table (RUN-1). Never on mainnet."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import trio
from attrs import define, evolve, field
from cyclopts import Parameter

from hip3.app import App
from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.keys_cmd import terminal_passphrase
from hip3.cli.run_cmd import EXIT_CONFIGURATION, Debug, RunOptions, refused, supervise
from hip3.cli.words import printable
from hip3.core.errors import first_leaf
from hip3.exchange.faults import Faults
from hip3.io.keys import KeySourceError
from hip3.ops.journal_file import iso_text, state_dir
from hip3.ops.reach import configured_key
from hip3.ops.session import Ended
from hip3.ops.stop import Stop
from hip3.ops.verify import ITEMS, Result, Verification, items_of, not_verifiable, table
from hip3.ops.verify_desk import Desk
from hip3.ops.verify_probe import verify_settings
from hip3.ops.verify_trail import Trail
from hip3.settings import ConfigError, LoadedSettings, load

EXIT_FAILED = 1


def verify(
    *,
    network: Annotated[str, Parameter(help="paper or testnet; must be that of the configuration.")],
    config: Config = None,
    items: Annotated[str | None, Parameter(help="Only these, such as 1,2,3; else all ten.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Run items 1 to 10 of the runbook on a real session and print the PASS/FAIL table with its evidence.

    Trades some 25 orders of 11 USD, of which three fill, and ends flat. Paper without a configuration: on the embedded
    exchange, with its faults switched on for item 10. The log goes to standard error. Exit code 0: all passed and flat;
    1: an item failed; 2: configuration; 3: the venue refused the start; 4: something is left (listed); 5: internal error;
    6: another process writes to this store.

    Example: hip3 verify --network paper --json
    """
    options = RunOptions(None, as_json, True, None, debug, name="verify")
    try:
        wanted = items_of(items)
        loaded = load(config, os.environ)
        why_not = not_verifiable(loaded.settings)
        if why_not is None and loaded.settings.network.value != network:
            why_not = f"--network {network}: the configuration is for {loaded.settings.network.value}"
        if why_not is not None:
            return refused(EXIT_CONFIGURATION, why_not, options)
        key = configured_key(loaded, os.environ, state_dir(os.environ), terminal_passphrase())
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except (KeySourceError, ValueError) as e:
        return refused(EXIT_CONFIGURATION, str(e), options)
    rider = _Rider(wanted, as_json)
    return supervise(evolve(loaded, settings=verify_settings(loaded.settings)), key, evolve(options, rider=rider))


@define
class _Rider:
    """Rides on the session of `hip3 run`: begins with the bot, ends it when every item is judged, prints the table."""

    wanted: tuple[int, ...]
    as_json: bool
    trail: Trail = field(factory=Trail)
    verification: Verification | None = None

    def begin(self, process: trio.Nursery, app: App, stop: Stop, faults: Faults | None) -> None:
        self.trail.posts = app.bot.posts
        self.verification = Verification(Desk(app.bot, self.trail), faults)
        process.start_soon(self._run, self.verification, stop)

    async def _run(self, verification: Verification, stop: Stop) -> None:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await stop.requested.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await verification.run(self.wanted)
            stop.request_once("the verification is over")

    def report(self, ended: Ended, loaded: LoadedSettings) -> int:
        """The table, or one object for machines; items that a stop has cut short have failed."""
        outcome = ended.outcome
        results = dict(self.verification.results) if self.verification is not None else {}
        for item in {1, *self.wanted} - results.keys():
            results[item] = Result(item, False, (f"not tried: {outcome.stop_reason}",))
        passed = all(result.passed for result in results.values())
        code = outcome.exit_code or (0 if passed else EXIT_FAILED)
        rows = sorted(results.values(), key=lambda r: r.item)
        if self.as_json:
            report = {
                "network": loaded.settings.network.value,
                "config_hash": loaded.hash,
                "run_id": ended.bot.run_id,
                "ended": iso_text(outcome.ended_ms),
                "passed": passed,
                "items": [result.as_dict() for result in rows],
                "flat": outcome.flat,
                "residual": list(outcome.residual),
                "certificate": None if outcome.certificate is None else outcome.certificate.as_dict(),
                "error": None if outcome.error is None else str(first_leaf(outcome.error)),
                "exit_code": code,
            }
            print(json.dumps(report, sort_keys=True, default=str))
            return code
        print("\n".join(printable(line) for line in table(rows)))
        count = sum(result.passed for result in rows)
        flat = "FLAT" if outcome.flat else "NOT FLAT: " + "; ".join(outcome.residual)
        print(f"{count} of {len(rows)} items of {len(ITEMS)} passed on {loaded.settings.network.value}; {printable(flat)}")
        if outcome.error is not None:
            print(f"hip3 verify: a task crashed: {first_leaf(outcome.error)}", file=sys.stderr)
        return code
