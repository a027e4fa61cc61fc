"""Output that nobody takes."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import sys
from hip3.cli.outlet import unheard_is_no_error
with unheard_is_no_error():
    for n in range(3):
        print("line", n, flush=True)
        print("other", n, file=sys.stderr)
sys.exit(7)
"""


def test_a_reader_that_is_gone_changes_no_exit_code() -> None:
    """END-3: neither while it runs nor when the interpreter writes what is buffered."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-c", PROGRAM], stdout=writing, stderr=writing, check=False)  # noqa: S603 - ours
    os.close(writing)
    assert ended.returncode == 7


def test_a_reader_that_is_there_gets_everything() -> None:
    """OBS-1: where somebody listens nothing is lost."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert ended.stdout == "line 0\nline 1\nline 2\n"
    assert ended.stderr == "other 0\nother 1\nother 2\n"
