"""Processes of `hip3 run`, one after the other, without loading the program for each: that takes longer than all the rest.

`python -m hip3.simulate.kill_runs` has loaded it and waits. For each line on its standard input, a file for the output, it
forks; the child is `hip3 run` from the reading of its arguments on, with a pid, signals, sockets and locks of its own. It
answers with the pid, and with the exit code once the child has ended. It runs no thread and no event loop, so what a fork
copies is code.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import trio
from attrs import define, field

from hip3.cli.main import main as command

CLOSE_S = 5.0
"""Far more than the system needs to end a process."""
LOOK_S = 0.01
ARGUMENTS = ("run", "--config", "bot.toml", "--plain", "--debug")


@define
class Run:
    """One process of the bot. `code` is its exit code once `ended`, negative for a signal."""

    pid: int
    code: int | None = None
    ended: trio.Event = field(factory=trio.Event)

    def send_signal(self, number: int) -> None:
        """To the process, while it lives."""
        if self.code is None:
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.send_signal(signal.SIGKILL)
        await self.ended.wait()


@define
class Runs:
    """The waiting process, seen from outside."""

    folder: Path
    """The working folder, with bot.toml."""
    env: Mapping[str, str]
    present: Run | None = None
    _process: trio.Process | None = None
    _begun: trio.Event = field(factory=trio.Event)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the process until cancelled; whatever of ours still runs then is killed."""
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "hip3.simulate.kill_runs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=self.env,
        )
        assert self._process.stdout is not None
        task_status.started()
        try:
            text = b""
            async for data in self._process.stdout:
                *lines, text = (text + data).split(b"\n")
                for line in lines:
                    self._heard(line.decode())
        finally:
            if self.present is not None:
                self.present.send_signal(signal.SIGKILL)
            await self._close(self._process)

    async def _close(self, process: trio.Process) -> None:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()

    def _heard(self, line: str) -> None:
        word, _, number = line.partition(" ")
        if word == "pid":
            self.present = Run(int(number))
            self._begun.set()
        elif self.present is not None:
            self.present.code = int(number)
            self.present.ended.set()

    async def start(self, out: Path) -> Run:
        """Another run, whose output goes to `out`; the last one must have ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self.present is None or self.present.code is not None, "the last run has not ended"
        self._begun = trio.Event()
        await self._process.stdin.send_all(f"{out}\n".encode())
        await self._begun.wait()
        assert self.present is not None
        return self.present


def _child(out: str) -> int:
    """`hip3 run` with its output in a file; the exit code."""
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for standard in (1, 2):
        os.dup2(fd, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: object = None
    try:
        command(ARGUMENTS)
    except SystemExit as e:
        code = e.code
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 1


def _ended(pid: int) -> int:
    """The exit code of a child once it has ended; where nobody listens any more, it is killed first."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        # No line comes before the answer to the last one, so what can be read is the end of the input.
        if select.select([sys.stdin], [], [], LOOK_S)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            sys.exit(1)


def main() -> None:
    """Forks once for each line, and answers; until the end of the input."""
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            os._exit(_child(line.strip()))
        print(f"pid {pid}", flush=True)  # noqa: T201 - the answer
        print(f"exit {_ended(pid)}", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
