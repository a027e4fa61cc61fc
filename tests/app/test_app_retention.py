"""The whole bot on a store that is days old: what it lets go, what it keeps, and what `hip3 explain` says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from hip3.cli.main import make_app
from hip3.core.risk import DAY_MS
from hip3.io.clock import TrioClock
from hip3.simulate.world import START_MS, open_world
from tests.app.app_builders import FAST, Script, closes, dislocated
from tests.app.test_app_store import disk

STAYS = ("order_intents", "order_results", "fills", "trades", "follow_ups", "incidents")


@pytest.mark.parametrize(("days", "goes"), [(2, True), (30, False), (0, False)])
async def test_what_a_gate_said_is_let_go_after_so_many_days(
    days: int, goes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-2, OPS-7: runs ten days after a trade prune its trail by store.trail_days, and in any case the keys of its
    fills; orders, fills, trade and audit rows stay as they are, and explain says that the trail went, and when."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    async with disk(tmp_path, {"store.trail_days": days}) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: len(closes(world)) == 1 and not world.positions())
            assert (await world.end()).exit_code == 0
            (signal,) = [str(n.fields["signal"]) for n in world.events("signal")]
        assert await kept.store.drain_and_close(5)
        before = {t: state.ask(f"select * from {t}") for t in STAYS}  # noqa: S608
        audit = state.ask("select * from audit_log order by seq")
        assert state.ask("select count(*) from processed_events") == [(2,)]

        for day, keys in ((10, 2), (11, 0)):
            start = START_MS + day * DAY_MS
            state.clock = TrioClock.starting_at(start)
            kept = await state.open()
            source = Script().calm().pulse(30).source()
            async with open_world(state.settings, source, config=FAST, keeping=kept.keeping, start_ms=start) as world:
                await world.ready()
                await trio.sleep(2)
                assert (await world.end()).exit_code == 0
            assert await kept.store.drain_and_close(5)
            assert state.ask("select count(*) from processed_events") == [(keys,)], "the cursor of day 10 lets them go"
        assert {t: state.ask(f"select * from {t}") for t in STAYS} == before  # noqa: S608
        assert state.ask("select * from audit_log order by seq")[: len(audit)] == audit
        said = [str(why) for (why,) in state.ask("select reason_message from audit_log where category = 'store'")]
        assert ["1 trails of signals of before 2026-01-09, 0 keys" in why for why in said] == (
            [True, False] if goes else [False]
        )
        assert kept.store.repository.verify_audit().is_whole
    app = make_app()
    assert app(["explain", signal], exit_on_error=False) == 0
    text = capsys.readouterr().out
    assert "closed (time stop)" in text
    assert ("gates    not on record any more: the store let the trail go on 2026-01-11 (store.trail_days)" in text) is goes
    assert ("gates, asked" in text) is not goes
    assert app(["explain", signal, "--json"], exit_on_error=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["trail_pruned_ms"] is not None, found["gates"] == [], found["outcome"]) == (goes, goes, "closed")
