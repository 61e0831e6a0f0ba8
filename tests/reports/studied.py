"""Small runs of studies, and their pages as if the data were others."""

from __future__ import annotations

import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from eval.run import run
from eval.schema import CONF, register
from reports.build import write


def studied(place: Path, *overrides: str) -> Path:
    """The folder of a run with those overrides."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [*overrides, f"paths.checkpoints={place / 'checkpoints'}"])
    (place / "run").mkdir(parents=True)
    run(cfg, place / "run", [], Console(quiet=True))
    return place / "run"


def page(folder: Path, name: str, output: Path) -> str:
    """The page as if the data were called so."""
    header = json.loads((folder / "run.json").read_text())
    header["data"]["name"] = name
    (folder / "run.json").write_text(json.dumps(header))
    return write(folder, output=output).read_text(encoding="utf-8")
