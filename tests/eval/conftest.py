from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console

from eval.records import Run
from eval.run import run
from eval.schema import CONF, register
from tests.eval.swept_jobs import ASKED

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained networks, shared by all tests: the same configuration trains once."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="session")
def compositions() -> dict[tuple[str, ...], DictConfig]:
    """What was composed so far, by its overrides: Hydra takes a third of a second for each, and a copy nothing."""
    return {}


@pytest.fixture
def composed(checkpoints: Path, compositions: dict[tuple[str, ...], DictConfig]) -> Compose:
    """Composes the main configuration with overrides, as the command does."""
    register()
    GlobalHydra.instance().clear()

    def build(*overrides: str) -> DictConfig:
        if overrides not in compositions:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                compositions[overrides] = compose("config", [f"paths.checkpoints={checkpoints}", *overrides])
        return copy.deepcopy(compositions[overrides])

    return build


@pytest.fixture
def go(composed: Compose) -> Callable[..., Run]:
    """Runs a configuration in a folder, and tells a console, if one is given."""

    def go(folder: Path, *overrides: str, console: Console | None = None) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return run(composed(*overrides), folder, list(overrides), console or Console(quiet=True))

    return go


@pytest.fixture
def small_run(composed: Compose) -> Callable[..., Run]:
    """Runs a small configuration in a folder: two networks, 40 digits."""

    def go(folder: Path, *overrides: str) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        cfg = composed("debug=quick", "model=[softmax,mlp_relu]", "attack=[fgsm,pgd]", *overrides)
        return run(cfg, folder, list(overrides), Console(quiet=True))

    return go


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image file."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


@pytest.fixture
def factory(tmp_path: Path) -> str:
    """The override that names a network of 1000 classes in a file, for `model=factory`."""
    (tmp_path / "nets.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    pool = torch.nn.AdaptiveAvgPool2d(8)\n"
        "    return torch.nn.Sequential(pool, torch.nn.Flatten(), torch.nn.Linear(192, 1000))\n"
    )
    return f"model.path={tmp_path / 'nets.py'}:net"


@pytest.fixture(scope="module")
def two() -> Iterator[None]:
    """Ray on this machine, with room for two workers."""
    pytest.importorskip("ray")
    from eval.cluster.terms import Terms, connected

    with connected(Terms(), num_cpus=2):
        yield


@dataclass
class Outcome:
    code: int
    err: str
    out: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoints: Path,
) -> Callable[[Sequence[str]], Outcome]:
    """Runs `toastproof` in an empty folder, inside this process."""
    from eval.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOASTPROOF_CHECKPOINTS", str(checkpoints))
    for name in ASKED:
        monkeypatch.setenv(name, "")  # so that what is left in its place is taken back too
        monkeypatch.delenv(name)

    def go(arguments: Sequence[str]) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["toastproof", *arguments])
        GlobalHydra.instance().clear()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        said = capsys.readouterr()
        return Outcome(code, said.err, said.out)

    return go
