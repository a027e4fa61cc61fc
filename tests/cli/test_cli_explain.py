"""`hip3 explain` as a user calls it: which journal is read, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import make_app
from hip3.core.journal import Journal
from hip3.ops.journal_file import LogFile, open_run_journal
from tests.cli.cli_runs import T0, run_paper

ALWAYS_ON = ("edge", "stale_bbo", "stale_reference", "size")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    return tmp_path


def explain(*tokens: str) -> int:
    code = make_app()(["explain", *tokens], exit_on_error=False)
    assert isinstance(code, int)
    return code


def line(seconds: int, event: str, level: str = "info", **fields: object) -> str:
    return json.dumps({"time": f"2026-01-01T00:00:{seconds:02d}.000Z", "level": level, "event": event, **fields}) + "\n"


def run_lines(run: str, *, coin: str = "xyz:SNDK", verdict: str = "Queued") -> str:
    """A run of one signal, as short as it can be."""
    gates = [
        {"name": "mode", "verdict": "pass", "inputs": {"mode": "ARMED_LIVE", "causes": []}},
        {"name": "budget", "verdict": "BudgetExhausted", "detail": "no more", "inputs": {"actions_left": 0}},
    ]
    return "".join(
        (
            line(0, "config_loaded", hash="ab12"),
            line(0, "run_started", run=run),
            line(1, "signal", signal=f"{run}-1", coin=coin, side="BUY", px="600", sz="0.02", reference_px="602"),
            line(1, "order_enqueued", signal=f"{run}-1", coin=coin, cloid=f"0x{run}"),
            line(1, "signal_judged", signal=f"{run}-1", coin=coin, verdict=verdict, detail=""),
            line(1, "signal_trail", "debug", signal=f"{run}-1", coin=coin, filters=[], gates=gates, judged_after_ms=2),
            line(1, "action_signed", post=1, type="order", nonce=5),
            line(1, "order_sent", post=1, cloid=f"0x{run}", coin=coin, side="BUY", sz="0.02", px="600"),
            line(2, "post_response", post=1, refused=False, late=False),
        )
    )


def write(state: Path, name: str, text: str) -> Path:
    folder = state / "journal"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


async def test_a_real_run_is_explained_without_arguments(
    state: Path, capsys: pytest.CaptureFixture[str], autojump_clock: object
) -> None:
    """OPS-7: --last finds the newest signal of the newest journal: filters, gates and what became of it, for each signal."""
    journal = Journal()
    ended = await run_paper(20, journal=journal)
    log = open_run_journal(state, T0, 1)
    notes = journal.drain()
    log.write(notes)
    log.close()
    assert explain("--last") == 0
    text = capsys.readouterr().out
    assert all(f"  pass   {name}: " in text for name in ALWAYS_ON)
    assert "gates, asked" in text
    assert "what became of it:" in text
    signals = [str(n.fields["signal"]) for n in notes if n.event == "signal"]
    assert f"signal   {signals[-1]}" in text
    outcomes: dict[str, Any] = {}
    for signal in signals:
        assert explain(signal, "--json") == 0
        outcomes[signal] = json.loads(capsys.readouterr().out)
    assert sum(o["outcome"] == "closed" for o in outcomes.values()) == ended.bot.tally.trades
    refused = [s for s, o in outcomes.items() if o["outcome"] == "refused"]
    decided = {s: next((g["verdict"] for g in o["gates"] if g["verdict"] != "pass"), None) for s, o in outcomes.items()}
    assert {s for s, verdict in decided.items() if verdict is not None} == set(refused)


def test_two_runs_in_one_file_do_not_mix(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7: posts are numbered anew in each run: with --log one file may hold several."""
    path = state / "own.jsonl"
    path.write_text(run_lines("aa") + run_lines("bb"))
    assert explain("aa-1", "--journal", str(path), "--json") == 0
    story = json.loads(capsys.readouterr().out)
    assert story["run"]["run_started"]["run"] == "aa"
    assert [e["event"] for e in story["events"]].count("post_response") == 1
    assert story["outcome"] == "sent"


def test_the_newest_journal_and_the_coin_decide_what_is_last(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7: --last takes the newest run, --coin the newest of a market, in an older run where it must."""
    write(state, "20260101T000000Z-1.jsonl", run_lines("aa", coin="xyz:MU"))
    write(state, "20260102T000000Z-2.jsonl", run_lines("bb"))
    assert explain("--last") == 0
    assert "signal   bb-1" in capsys.readouterr().out
    assert explain("--last", "--coin", "xyz:MU") == 0
    assert "signal   aa-1" in capsys.readouterr().out


def test_a_journal_may_go_on_in_a_second_part(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7: a story that began before the journal was turned is whole."""
    head, _, rest = run_lines("aa").partition('{"time": "2026-01-01T00:00:02')
    path = write(state, "r.jsonl", '{"time": "2026-01-01T00:00:02' + rest)
    path.with_suffix(".earlier.jsonl").write_text(head)
    assert explain("aa-1") == 0
    assert "+1.000 s  post 1 answered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["aa-7"], "signal 'aa-7' is not in"),
        (["aa-7"], "ids like it: aa-1"),
        (["aa-7"], "Looked in stores and journals of /"),
        ([], "name a signal, or ask for the newest with --last"),
        (["aa-1", "--last"], "name a signal, or ask for the newest with --last"),
        (["aa-1", "--coin", "xyz:MU"], "--coin goes with --last"),
        (["--last", "--coin", "xyz:NONE"], "no signal of xyz:NONE in"),
        (["aa-1", "--journal", "missing.jsonl"], "journal missing.jsonl: No such file or directory"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    state: Path, tokens: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-7: exit code 2, the place that was looked at, ids like the one that was asked for; nothing on standard output."""
    write(state, "r.jsonl", run_lines("aa"))
    assert explain(*tokens) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert explain(*tokens, "--json") == 2
    assert message in json.loads(capsys.readouterr().out)["error"]


def test_without_any_journal_it_says_so(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    """OPS-7: a machine on which no bot has run yet: where was looked, and how to name another file."""
    assert explain("--last") == 2
    said = capsys.readouterr().err
    assert "no signal in any journal: there is none yet" in said
    assert f"Looked in stores and journals of {state}; another file is named by --journal" in said


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([("signal_judged", {"verdict": "Rejected(NotReady)", "detail": "no BBO yet"})], "refused"),
        ([("signal_replaced", {"by": "aa-2"})], "replaced"),
        ([("mark_released", {"cloid": "0xaa", "reason": "hard stop: HALT"})], "released"),
        ([("order_canceled", {"cloid": "0xaa", "filled": "0"})], "canceled"),
        ([("order_expired", {"cloid": "0xaa", "filled": "0"})], "expired"),
        ([("fill", {"cloid": "0xaa", "coin": "xyz:SNDK", "side": "BUY", "px": "600", "sz": "0.02", "fee": "0"})], "open"),
        ([], "unknown"),
    ],
)
def test_each_end_has_its_word(
    state: Path, lines: list[tuple[str, dict[str, object]]], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-7: what became of a signal is said in one word for machines and in a sentence for people."""
    text = "".join(run_lines("aa").splitlines(keepends=True)[:4])
    for event, fields in lines:
        whose: dict[str, Any] = fields if "cloid" in fields else {**fields, "signal": "aa-1"}
        text += line(2, event, **whose)
    write(state, "r.jsonl", text)
    assert explain("aa-1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == word
    assert explain("aa-1") == 0
    assert "outcome  " in capsys.readouterr().out


def test_the_first_refusal_is_marked_and_the_venue_cannot_steer_the_terminal(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-7: the gate that decided stands out; text of others is printed without control characters."""
    lines = run_lines("aa", verdict="Skipped(BudgetExhausted)").splitlines(keepends=True)
    lines.append(line(2, "action_rejected", cloid="0xaa", coin="xyz:SNDK", error="\x1b[2Jgone"))
    write(state, "r.jsonl", "".join(lines))
    assert explain("aa-1") == 0
    text = capsys.readouterr().out
    assert "  REFUSE budget: no more; actions_left 0  <- decided" in text
    assert "  pass   mode: mode ARMED_LIVE, causes none" in text
    assert "\x1b" not in text


def test_a_log_without_a_trail_is_still_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7: a process that died between signal and trail leaves what there is, said as such."""
    log = LogFile(state / "own.jsonl")
    log.close()
    log.path.write_text("".join(run_lines("aa").splitlines(keepends=True)[:3]))
    assert explain("aa-1", "--journal", str(log.path)) == 0
    text = capsys.readouterr().out
    assert "gates    not on record" in text
    assert "the record ends before the gates were asked" in text
