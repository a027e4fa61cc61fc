"""Agents that were replaced: a line of JSON each in the user's state folder, added to and never taken from (KEY-5).

The venue forgets the nonces of an agent that has ended, so an address that was approved again could have its old actions
played back (PROTOCOL 4.3). Whoever starts or rotates therefore asks here first; a record that cannot be read refuses.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from attrs import asdict, frozen

from hip3.io.keys import KeySourceError
from hip3.ops.journal_file import STATE_VAR

FILE = "retired_agents.jsonl"


@frozen
class RetiredAgent:
    """An agent that another one took the place of. Addresses as given; `at_ms` is wall time."""

    address: str
    user: str
    network: str
    replaced_by: str
    at_ms: int


class AgentRetired(KeySourceError):
    """The address has signed before and was replaced, or it cannot be known whether it was; exit code 2."""


def retired_agents(state: Path) -> list[RetiredAgent]:
    """Every agent on record, oldest first; none where there is no file. Raises AgentRetired for one that cannot be read."""
    path = state / FILE
    try:
        lines = path.read_text("utf-8").splitlines()
        return [RetiredAgent(**json.loads(line)) for line in lines if line.strip()]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise AgentRetired(f"{state} is a file, the state folder is expected; set {STATE_VAR} to a folder") from None
    except (OSError, ValueError, TypeError) as e:
        raise AgentRetired(
            f"the record of replaced agents {path} cannot be read ({type(e).__name__}: {e}); whether the key was used "
            "before is not known: restore the file, or correct the line"
        ) from None


def refuse_retired(state: Path, address: str) -> None:
    """Raises AgentRetired where this address was replaced before."""
    for agent in retired_agents(state):
        if agent.address.lower() == address.lower():
            raise AgentRetired(
                f"agent {address} was replaced by {agent.replaced_by} and is never used again, for the venue may have "
                "forgotten its nonces; set signer_address and signer.key_source to the new one, or make another with "
                "`hip3 keys rotate`"
            )


def retire(state: Path, agent: RetiredAgent) -> None:
    """Adds an agent to the record and makes it durable; once is enough. Raises AgentRetired where that fails."""
    if any(known.address.lower() == agent.address.lower() for known in retired_agents(state)):
        return
    path = state / FILE
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(agent), sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise AgentRetired(
            f"the record of replaced agents {path} cannot be written: {e.strerror}; nothing is changed"
        ) from None
