"""What the tests beside this file compare with, made anew.

    python -m tests.robustness.refresh             # outcomes.json and counts.json, from the networks that are kept
    python -m tests.robustness.refresh --train     # the networks too

Do it after a change that is meant to change what attacks find or cost, and say in the commit what changed and why.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from eval.gate.baseline import accept
from eval.records import read_records
from eval.run import run
from eval.schema import CONF, register
from tests.robustness.nets import HERE, bare

NETWORKS = ("softmax", "mlp_relu", "cnn")
OUTCOMES, COUNTS = HERE / "outcomes.json", HERE / "counts.json"
OVERRIDES = [
    "title=Regression of our own",
    "data=digits",
    "data.limit=120",
    "paths.data=data",
    "model=factory",
    f"model.path=[{','.join(f'tests/robustness/nets.py:{name}' for name in NETWORKS)}]",
    "threat=linf_0_1",
    "threat.curve=[0.05]",
    "attack=[fgsm,pgd,apgd_targeted,fab/within,square/quick,quick,lbfgs/quick]",
    "attack.pgd.steps=20",
    "attack.apgd_targeted.steps=20",
    "transfer=false",
    "controls=false",
    "examples=0",
    "device=cpu",
]


def evaluate(folder: Path) -> None:
    """Attack the networks into a folder."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", OVERRIDES)
    run(cfg, folder, OVERRIDES, Console(quiet=True))


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """Forwards and backwards of all samples, by network, attack and eps."""
    rows = read_records(folder)
    white = rows[(rows["role"] == "attack") & (rows["source"] == rows["target_model"])]
    sums = white.groupby(["source", "attack", "eps_text"])[["forwards", "backwards"]].sum()
    return {" ".join(cell): {k: int(v) for k, v in row.items()} for cell, row in sums.iterrows()}


def train(name: str) -> None:
    """Fit a network to the digits, in float64, the same way every time."""
    digits = load_digits()
    x, y = torch.from_numpy(digits.images / 16).unsqueeze(1), torch.from_numpy(digits.target)
    torch.manual_seed(0)
    body = bare(name).double()
    optimiser = torch.optim.Adam(body.parameters(), lr=0.01, weight_decay=1e-4)
    for step in range(600):
        part = torch.randperm(len(x), generator=torch.Generator().manual_seed(step))[:128]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(body(x[part]), y[part]).backward()
        optimiser.step()
    print(f"{name}: {(body(x).argmax(1) == y).double().mean():.3f} of the digits")
    save_file({k: v.float() for k, v in body.state_dict().items()}, HERE / f"{name}.safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--train", action="store_true", help="train the networks anew, too")
    if parser.parse_args(arguments).train:
        for name in NETWORKS:
            train(name)
    with TemporaryDirectory() as place:
        folder = Path(place)
        evaluate(folder)
        accept(folder, OUTCOMES, min_effect=0.02)
        COUNTS.write_text(json.dumps(counts(folder), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
