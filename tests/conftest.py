"""Fixtures for the whole suite."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import process_marker
from tests.postgres_server import names, own_postgres, postgres, postgres_url

__all__ = ["names", "own_postgres", "postgres", "postgres_url"]  # fixtures

# Two shared cores: enough examples to find what a property hides, few enough for the whole suite to stay quick.
settings.register_profile("hip3", derandomize=False, print_blob=True, deadline=None, max_examples=60)
# Ten thousand stories a machine: `scripts/interleavings` (docs/simulation.md). Its seed is given and printed.
settings.register_profile("deep", settings.get_profile("hip3"), max_examples=10_000, print_blob=True, database=None)
settings.load_profile("hip3")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker `process` and what sets and guards it."""
    config.addinivalue_line("markers", process_marker.MARKER)
    watch = process_marker.Watch()
    watch.install()
    config.pluginmanager.register(watch, "process-marker")


def pytest_report_header(config: pytest.Config) -> str:
    """Says what repeats this run's properties."""
    seed = config.getoption("hypothesis_seed")
    chance = "by chance; a failure prints what repeats it"
    return f"hypothesis: {settings().max_examples} examples a property, seed {chance if seed is None else seed}"


@pytest.fixture(scope="session", autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that a test starts, writes into the state folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIP3_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def hangup_as_in_a_terminal() -> Iterator[None]:
    """SIGHUP does here, and in every process that a test starts, what it does by default, although the suite itself may run
    under nohup: hip3 leaves a hangup ignored that was ignored before it began (END-1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings and vectors beside a developer's checkout; a user's clone has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the recordings and vectors that lie beside a developer's checkout ({folder.name}/ not found)")
    return folder
