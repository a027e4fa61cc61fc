"""The program around its commands."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_reader_that_goes_away_is_no_error() -> None:
    """OPS-1: `hip3 config show | head` ends quietly: no trace-back, the exit code of a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hip3", "config", "show"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
