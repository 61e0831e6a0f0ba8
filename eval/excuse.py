"""The word that a job of a sweep leaves when it comes to nothing, for the combined report. Free of torch and pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "error.json"
PLAN = "multirun.yaml"
"""The file that Hydra leaves in the folder of a sweep when it begins."""
CODES: Mapping[str, int] = {"refused": 2, "crashed": 1, "failed": 1}
"""The exit status that a job comes to, by its own; of one that is not here it is 0. A sweep comes to the largest."""


@dataclass(frozen=True)
class Excuse:
    """Why a job has no result.

    Attributes:
        status: `refused` (bad input) or `crashed` (an error of ours).
        error: one line.
        overrides: what the command line said of this job.
    """

    status: str
    error: str
    overrides: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Leave it in the job's folder, which is made if there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Excuse | None:
        """What a job left; None where it left nothing."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(content["status"]), str(content["error"]), tuple(map(str, content["overrides"])))
        except (KeyError, TypeError, ValueError):  # torn, or somebody else's
            return cls("crashed", f"{path.name} cannot be read")
