"""The program around its commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hip3.cli.main import COMMANDS, GROUPS, main, make_app

EVERY = [(name,) for name in COMMANDS] + [(group, name) for group, (_, commands) in GROUPS.items() for name in commands]


def test_a_reader_that_goes_away_is_no_error() -> None:
    """OPS-1: `hip3 config show | head` ends quietly: no trace-back, the exit code of a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hip3", "config", "show"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("tokens", EVERY, ids=" ".join)
def test_every_command_has_an_example(tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: --help shows how it is called and what the exit codes mean."""
    make_app()([*tokens, "--help"], exit_on_error=False)
    said = " ".join(capsys.readouterr().out.split())
    assert f"Example: hip3 {' '.join(tokens)}" in said
    assert "Exit code 0" in said


@pytest.mark.parametrize("tokens", [(), ("--help",), *((group,) for group in GROUPS)], ids=" ".join)
def test_a_list_of_commands_says_what_each_does(tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: `hip3`, or a group of commands, without a command says of each one in a few words what it does."""
    with pytest.raises(SystemExit) as ended:
        main(tokens)
    assert ended.value.code == 0
    said = [line.strip("│ ").split() for line in capsys.readouterr().out.splitlines()]
    words = {line[0]: line[1:] for line in said if line}
    for name in GROUPS[tokens[0]][1] if tokens and tokens[0] in GROUPS else [*COMMANDS, *GROUPS]:
        assert len(words[name]) > 1, name


def test_a_command_imports_what_it_needs_alone() -> None:
    """OPS-5: a hold or a kill does not wait for the database library, the exchange's server or the plots."""
    ask = "import sys; from hip3.cli.main import make_app; make_app()(['ops', 'kill', '--help']); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    loaded = set(ended.stdout.split())
    assert "hip3.cli.ops_cmd" in loaded
    assert not loaded & {"sqlalchemy", "starlette", "plotly", "hip3.app"}
