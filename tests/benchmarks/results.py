"""What has been measured, one row per network, goal, method and set of images, in a JSON file that grows.

A row says all that its numbers depend on: settings, versions, machine, fingerprints of the weights and, for our own
methods, of our code. A command that is started again asks for rows by that identity and measures what is missing;
a row that differs in it takes the place of the old one.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from eval.errors import InputError
from eval.records import replace

_FORMAT = "toastproof benchmark of minimal L2 distortion, 1"
_PLACE = ("network", "goal", "method", "images", "first", "seed")


@dataclass(frozen=True)
class Row:
    """One method on one network.

    Attributes:
        network: name.
        goal: untargeted or targeted.
        method: name.
        images: n.
        first: number of the test image from which the images were sought.
        seed: of targets and attacks.
        settings: of the method.
        package: distribution and version of the method, "" for this project.
        machine: device, processor, threads, versions.
        weights: fingerprint of the network.
        code: fingerprint of the modules of `attacks` that our methods use, "" for others.
        label: the method for readers.
        reached: per image.
        rms: per image.
        forwards: per image.
        backwards: per image.
        milliseconds: per image.
        default_milliseconds: of our default on the same images, measured beside this method.
        date: day of the measurement.
    """

    network: str
    goal: str
    method: str
    images: int
    first: int
    seed: int
    settings: dict[str, Any]
    package: str
    machine: dict[str, Any]
    weights: str
    code: str
    label: str = ""
    reached: list[bool] = field(default_factory=list)
    rms: list[float] = field(default_factory=list)
    forwards: float = 0.0
    backwards: float = 0.0
    milliseconds: float = 0.0
    default_milliseconds: float = 0.0
    date: str = ""

    @property
    def identity(self) -> str:
        """All that the numbers depend on."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)[:11]}, sort_keys=True)

    @property
    def place(self) -> tuple[Any, ...]:
        """What a later measurement replaces."""
        return *(getattr(self, name) for name in _PLACE), self.machine["device"], self.machine["threads"]

    @property
    def group(self) -> tuple[Any, ...]:
        """What rows of one table have in common."""
        return self.network, self.goal, self.first, self.seed, self.machine["device"], self.machine["threads"]


def machine(device: torch.device) -> dict[str, Any]:
    """What the times depend on besides the method."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The model of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@functools.cache
def code() -> str:
    """Twelve hexadecimal digits that change with the statements of any module of `attacks` that is loaded.

    Comments, docstrings and layout do not count. Read once, at the begin of a command: a source that is edited while
    it runs is not what is measured.
    """
    digest = hashlib.sha256()
    for name in sorted(m for m in sys.modules if m.startswith("attacks.")):
        digest.update(statements(Path(str(sys.modules[name].__file__)).read_text()).encode())
    return digest.hexdigest()[:12]


def statements(source: str) -> str:
    """What a source does: its syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]  # type: ignore[attr-defined]
    return ast.dump(tree)


class Results:
    """Rows, and the file they are kept in.

    Args:
        path: JSON file, read if it exists; None keeps nothing.
        fresh: forget what the file holds.
    """

    def __init__(self, path: Path | None, fresh: bool = False) -> None:
        self.path = path
        self.rows: list[Row] = [] if path is None or fresh or not path.exists() else read(path)

    def find(self, row: Row) -> Row | None:
        """The row of the same identity."""
        return next((r for r in self.rows if r.identity == row.identity), None)

    def put(self, row: Row) -> None:
        """Keep the row, in the place of an older one, and write the file."""
        self.rows = [*(r for r in self.rows if r.place != row.place), row]
        if self.path is not None:
            content = json.dumps({"format": _FORMAT, "rows": [asdict(r) for r in self.rows]}) + "\n"
            replace(self.path, lambda beside: beside.write_text(content))


def read(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        InputError: no such file, or not one of ours.
    """
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise InputError(f"{path}: is of format {content['format']!r}, must be {_FORMAT!r}; measure again")
        return [Row(**row) for row in content["rows"]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; --out FILE.json writes one") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{path}: holds no results of this benchmark; name another file") from None
