"""scripts/check_vectors.py: passes real vectors, names what is wrong, refuses what is no file of vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_vectors.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script


def last_line(found: subprocess.CompletedProcess[str]) -> str:
    return found.stdout.splitlines()[-1]


@pytest.fixture
def vectors(shared_data: Path) -> list[dict[str, Any]]:
    """Three cases of the recorded file: an order, a leverage change, a noop."""
    cases: list[dict[str, Any]] = json.loads((shared_data / "signing" / "sdk_vectors.json").read_text())
    return [next(c for c in cases if c["action"]["type"] == kind) for kind in ("order", "updateLeverage", "noop")]


def write(folder: Path, content: object) -> Path:
    path = folder / "vectors.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("name", "count"), [("sdk_vectors.json", 40), ("l1_vectors.json", 42)])
def test_recorded_files_pass(shared_data: Path, name: str, count: int) -> None:
    """SIG-3: every case of both recorded files passes; no key is printed."""
    path = shared_data / "signing" / name
    found = run(path)
    assert (found.returncode, last_line(found), found.stderr) == (0, f"{count} passed, 0 failed", "")
    content = json.loads(path.read_text())
    keys = {c["key"] for c in content} if isinstance(content, list) else {content["key"]}
    assert not any(key.removeprefix("0x") in found.stdout for key in keys)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"action_hash": "0x" + "0" * 64}, "action hash is"),
        ({"signature": {"r": "0x1", "s": "0x1", "v": 27}}, "signature is"),
        ({"nonce": 1}, "action hash is"),
        ({"address": "0x" + "11" * 20}, "the key's address is"),
        ({"is_mainnet": None}, "signature is"),
        ({"key": "0x" + "ab" * 31}, "a private key is 64 hex digits"),
        ({"signature": {"r": "zz", "s": "0x1", "v": 27}}, "invalid literal"),
        ({"nonce": -1}, "must fit in 64 bits"),
        ({"action": {"type": "updateLeverage", "asset": "1", "isCross": True, "leverage": 1}}, "action.asset"),
    ],
)
def test_wrong_cases_fail_by_name(vectors: list[dict[str, Any]], tmp_path: Path, change: dict[str, Any], says: str) -> None:
    """SIG-3: a case that is wrong in one field fails alone, by name, and the exit code is 1."""
    if "is_mainnet" in change:
        change = {"is_mainnet": not vectors[1]["is_mainnet"]}
    found = run(write(tmp_path, [vectors[0], {**vectors[1], **change}, vectors[2]]))
    assert (found.returncode, last_line(found)) == (1, "2 passed, 1 failed")
    assert "FAILED case 1 (" in found.stdout
    assert says in found.stdout
    assert vectors[1]["key"].removeprefix("0x") not in found.stdout + found.stderr


def test_key_order_of_the_file_does_not_matter(vectors: list[dict[str, Any]], tmp_path: Path) -> None:
    """SIG-2: actions whose keys were shuffled still pass; the table has the order."""
    for vector in vectors:
        vector["action"] = {key: vector["action"][key] for key in reversed(vector["action"])}
    assert last_line(run(write(tmp_path, vectors))) == "3 passed, 0 failed"


@pytest.mark.parametrize("content", [{}, [], 7, [{"key": "0x" + "ab" * 32}], {"key": "a", "signer": "b", "nonce": 1}, [[]]])
def test_other_json_is_refused(tmp_path: Path, content: object) -> None:
    """SIG-3: what is not a file of vectors exits with 2 and says so; it never passes by holding nothing."""
    found = run(write(tmp_path, content))
    assert (found.returncode, found.stdout) == (2, "")
    assert "vectors.json:" in found.stderr
    assert "Traceback" not in found.stderr
    assert "abab" not in found.stderr


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """SIG-3: a file that is missing, no JSON or a folder exits with 2 and a clear message; so does a missing argument."""
    broken = tmp_path / "broken.json"
    broken.write_bytes(b'[{"key": ')
    for path in (tmp_path / "missing.json", broken, tmp_path):
        found = run(path)
        assert found.returncode == 2
        assert found.stderr.startswith(f"{path}: ")
        assert "Traceback" not in found.stderr
    assert run().returncode == 2
    assert run("--help").returncode == 0
