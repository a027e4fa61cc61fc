"""A file that one process holds: the kernel's lock, gone with its process, and the process's id in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Held(Exception):
    """Another process holds a file; the message is its id, or "unknown"."""


def hold_file(path: Path, pid: int) -> int:
    """Takes the kernel's lock on a file for the life of the process and writes its holder into it; the descriptor.

    Raises Held, with the file as it was, and OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise Held(holder) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{pid}\n".encode())
    return fd
