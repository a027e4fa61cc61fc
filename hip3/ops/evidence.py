"""The evidence of a validation: a Markdown file for people and a JSON file for machines, in the state folder (OPS-4)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trio
from attrs import frozen

import hip3
from hip3.ops.files import replace_file
from hip3.ops.findings import Finding, all_ok, finding_object
from hip3.ops.journal_file import STATE_VAR, iso_text

FOLDER = "evidence"


class EvidenceUnwritable(Exception):
    """The evidence cannot be kept: place, cause, remedy."""


@frozen
class Evidence:
    """What was validated and what was found, at the wall times of beginning and end (Unix ms)."""

    config_file: str
    config_hash: str
    began_ms: int
    ended_ms: int
    preflight: Sequence[Finding]
    poststart: Sequence[Finding]

    @property
    def ok(self) -> bool:
        return all_ok(self.preflight) and all_ok(self.poststart)

    def object(self) -> dict[str, object]:
        """For machines."""
        versions = {"hip3": hip3.__version__, "python": platform.python_version(), "trio": trio.__version__}
        return {
            "validate_run_ok": self.ok,
            "config": {"file": self.config_file, "hash": self.config_hash},
            "versions": versions,
            "began": iso_text(self.began_ms),
            "ended": iso_text(self.ended_ms),
            "preflight": finding_object(self.preflight, "preflight_ok"),
            "poststart": finding_object(self.poststart, "poststart_ok"),
        }

    def markdown(self) -> str:
        """For people."""
        lines = [
            "# Validation of a run",
            "",
            f"- result: **{'ok' if self.ok else 'NOT ok'}**",
            f"- configuration: {self.config_file}, hash {self.config_hash}",
            f"- versions: hip3 {hip3.__version__}, Python {platform.python_version()}, trio {trio.__version__}",
            f"- from {iso_text(self.began_ms)} to {iso_text(self.ended_ms)}",
        ]
        for title, findings in (("preflight", self.preflight), ("poststart", self.poststart)):
            lines += ["", f"## {title}: {'ok' if all_ok(findings) else 'NOT ok'}", "", "| check | result | value | remedy |"]
            lines += ["|---|---|---|---|", *(_row(finding) for finding in findings)]
        return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    cells = (finding.check.value, finding.level.value, finding.value, finding.remedy)
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def keep_evidence(evidence: Evidence, state: Path) -> tuple[Path, Path]:
    """Writes both files, mode 0600; returns the Markdown and the JSON. Raises EvidenceUnwritable."""
    stamp = datetime.fromtimestamp(evidence.began_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = state / FOLDER
    base = folder / f"{stamp}-{os.getpid()}"
    page, data = base.with_suffix(".md"), base.with_suffix(".json")
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(page, evidence.markdown())
        replace_file(data, json.dumps(evidence.object(), indent=2, sort_keys=True) + "\n")
    except OSError as e:
        raise EvidenceUnwritable(f"{folder}: {e.strerror or e}; set {STATE_VAR} to a folder that can be written") from e
    return page, data
