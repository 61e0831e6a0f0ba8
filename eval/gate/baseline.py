"""The file that a gate compares with: what became of each sample of a run that was accepted.

JSON, to be kept beside the network in version control. An outcome takes two bits, four samples a byte, the first in
the lowest bits; the bytes in base64. `rules` may be edited by hand; a digest guards the rest.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval import __version__
from eval.errors import InputError
from eval.gate.outcomes import ABSENT, Cell, Outcomes
from eval.gate.paired import Rules
from eval.gate.snapshot import Snapshot, read_run
from eval.records import key, replace

SCHEMA = 1
WHAT = "baseline of toastproof-gate"
_SHIFTS = np.array([0, 2, 4, 6], dtype=np.uint8)


def pack(outcomes: Outcomes) -> str:
    """Outcomes (S,) as base64 of two bits each.

    >>> pack(np.array([1, 0, 2, 1, 1], np.uint8))
    'YQE='
    """
    padded = np.zeros(-(-len(outcomes) // 4) * 4, dtype=np.uint8)
    padded[: len(outcomes)] = outcomes
    packed = np.bitwise_or.reduce(padded.reshape(-1, 4) << _SHIFTS, axis=1).astype(np.uint8)
    return base64.b64encode(packed.tobytes()).decode("ascii")


def unpack(text: str, n: int) -> Outcomes:
    """The outcomes (n,) that `pack` made a text of.

    Raises:
        ValueError: it is none of n outcomes.
    """
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None
    if len(packed) != -(-n // 4):
        raise ValueError(f"{len(packed)} bytes, not those of {n} samples")
    outcomes = ((packed[:, None] >> _SHIFTS) & 3).reshape(-1)[:n].astype(np.uint8)
    if (outcomes > ABSENT).any():
        raise ValueError("an outcome that is none")
    return outcomes


@dataclass(frozen=True)
class Baseline:
    """A snapshot that was accepted, and the rules by which others are compared with it.

    Attributes:
        snapshot, rules: see above.
        version: of Toastproof, which made it.
        accepted: when, UTC, ISO 8601.
        replaced: what stood in its file when it was accepted; no part of the file.
    """

    snapshot: Snapshot
    rules: Rules
    version: str = __version__
    accepted: str = ""
    replaced: Baseline | None = field(default=None, repr=False, compare=False)

    def write(self, path: Path) -> None:
        """Write the file in one step, replacing an earlier one."""
        content = self._content()
        head = json.dumps({k: v for k, v in content.items() if k not in ("samples", "cells")}, indent=1)
        cells = ",\n".join("  " + json.dumps(cell) for cell in content["cells"])
        text = f'{head[:-2]},\n "samples": {json.dumps(content["samples"])},\n "cells": [\n{cells}\n ]\n}}\n'
        replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))

    def _content(self) -> dict[str, Any]:
        s = self.snapshot
        content = {
            "what": WHAT,
            "schema": SCHEMA,
            "toastproof": self.version,
            "accepted": self.accepted,
            "made": s.made,
            "question": s.question,
            "models": dict(s.models),
            "samples": list(s.samples),
            "cells": [{**cell._asdict(), "outcomes": pack(outcomes)} for cell, outcomes in s.cells.items()],
        }
        return {"rules": asdict(self.rules), "digest": key(content), **content}

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline of a file.

        Raises:
            InputError: there is none, or it is torn, of another schema, something else, or was edited.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path}: must be a baseline, but there is no such file; toastproof-gate accept RUN makes it"
            ) from None
        except OSError as error:
            raise InputError(f"{path}: must be a baseline, but cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: must be a baseline, but is no whole JSON ({error}); get it back from version control"
            ) from None
        if not isinstance(content, dict) or content.get("what") != WHAT:
            raise InputError(f"{path}: must be a {WHAT}, but is JSON of something else; name another file")
        if content.get("schema") != SCHEMA:
            raise InputError(
                f"{path}: schema must be {SCHEMA}, got {content.get('schema')!r}, of Toastproof "
                f"{content.get('toastproof')}; delete it and accept a run of this version"
            )
        guarded = {k: v for k, v in content.items() if k not in ("rules", "digest")}
        if content.get("digest") != key(guarded):
            raise InputError(
                f"{path}: only its rules may be edited, but other parts were, or two versions were merged; get one "
                "back from version control, or accept a run anew"
            )
        try:
            samples = tuple(map(str, content["samples"]))
            cells = {
                Cell(c["model"], c["attack"], c["eps"]): unpack(c["outcomes"], len(samples)) for c in content["cells"]
            }
            snapshot = Snapshot(str(path), content["question"], content["made"], content["models"], samples, cells)
            _ = snapshot.levels, snapshot.headline, snapshot.attacks, snapshot.question["data"]["fingerprint"]
            if not snapshot.attacks or not all(isinstance(name, str) for name in snapshot.models.values()):
                raise ValueError("no attack, or networks without fingerprints")
            return cls(snapshot, _rules(path, content["rules"]), content["toastproof"], content["accepted"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: must be a whole baseline, got {error!r}; accept a run anew") from None


def _rules(path: Path, content: Any) -> Rules:
    known = set(Rules.__dataclass_fields__)
    if not isinstance(content, dict) or set(content) - known:
        raise InputError(f"{path}: rules must be of {sorted(known)}, got {content!r}; correct them")
    try:
        return Rules(**content)
    except InputError as error:
        raise InputError(f"{path}: rules.{error}") from None


def accept(folder: Path, path: Path, **rules: float | None) -> Baseline:
    """Keep a run as the baseline `path`; rules that are not given stay as they were in an earlier one there.

    Raises:
        InputError: the run cannot be a baseline, the file is there and is none, or cannot be written; it was not
            touched.
    """
    earlier = Baseline.read(path) if path.exists() else None
    chosen = Rules(**((asdict(earlier.rules) if earlier else {}) | rules))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    baseline = Baseline(read_run(folder), chosen, accepted=now, replaced=earlier)
    try:
        baseline.write(path)
    except OSError as error:
        raise InputError(
            f"{path}: must be a file that can be written, but: {error.strerror}; name another by --baseline"
        ) from None
    return baseline
