"""All that is to be known of a GPU, by one command: that its tests pass, and how fast PGD is on it.

    python -m tests.benchmarks.gpu                                        # about ten minutes
    python -m tests.benchmarks.gpu --networks mnist_cnn --images 128 --no-tests
    python -m tests.benchmarks.gpu --device cpu --networks mlp,cifar10_resnet20 --images 128 --rounds 3 --no-tests

The tests are those marked `gpu`. PGD of 40 steps is timed beside its floor, lever by lever, and beside the libraries
that are installed, with TF32 and without (`eval.timing`), on a small CNN of MNIST's size, and on a ResNet-18 and a
WRN-28-10 of CIFAR-10's. Their weights are drawn, not trained: time does not depend on them, and their own answers are
the labels. What each leaves standing is judged by the same network in float32. Where `TOASTPROOF_DATA` has them,
networks with weights are timed on test images as well. Results go into a JSON file, which grows.

Source of the WRN: Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016 (arXiv 1605.07146).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eval.data import Samples
from eval.device import choose, describe
from eval.records import replace
from eval.speed import keep_memory
from eval.timing import FLOOR, LIBRARY, Timing
from models.classifier import Classifier
from models.convnets import CNN, ResNet18
from models.spec import Spec, build
from tests.benchmarks.networks import load

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "benchmarks"
_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)


class _Wide(nn.Module):
    """Batch norm, rectifier and convolution, twice, beside a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.past = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        past = x if self.past is None else self.past(y)
        found: Tensor = self.two(self.second(self.one(y)).relu()) + past
        return found


def wide_resnet(depth: int = 28, width: int = 10) -> nn.Module:
    """A WRN of 10 classes; images (B, 3, 32, 32) -> logits (B, 10)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    before = 16
    for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 4) // 6):
            layers.append(_Wide(before, channels, 2 if stage and not block else 1))
            before = channels
    return nn.Sequential(
        *layers, nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)
    )


def _built(spec: Spec, name: str, shape: tuple[int, int, int]) -> Classifier:
    return build(spec, name, shape, 10, seed=0)[name].classifier(name, shape)


def _wide(name: str) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(wide_resnet(), name=name, input_shape=_CIFAR, num_classes=10)


DRAWN: dict[str, Callable[[str], Classifier]] = {
    "mnist_cnn": lambda name: _built(CNN(), name, _MNIST),
    "resnet18": lambda name: _built(ResNet18(), name, _CIFAR),
    "wrn_28_10": _wide,
}
"""Networks whose weights are drawn."""
KNOWN = {
    "mlp": "0.1",
    "mnist_lenet5_clean": "0.3",
    "mnist_lenet5_adv": "0.3",
    "cifar10_resnet20": "8/255",
    "cifar10_resnet4b": "8/255",
}
"""Networks of the data folder, and an MLP that learns from its images; their budgets."""


def problem(name: str, images: int) -> tuple[Classifier, Samples, str]:
    """A network, images that it classifies correctly, and the budget."""
    classes = tuple("0123456789")
    if name in KNOWN:
        found = load(name, images)
        classifier = Classifier(found.network, name=name, input_shape=_side(found.x), num_classes=10)
        return classifier, Samples.of(found.x.numpy(), found.labels.numpy(), classes, "test"), KNOWN[name]
    classifier = DRAWN[name](name)
    x = torch.rand(images, *classifier.input_shape, generator=torch.Generator().manual_seed(0))
    _settle(classifier, x[:64])
    labels = torch.cat([classifier(part).argmax(1) for part in x.split(64)])
    eps = "0.3" if classifier.input_shape == _MNIST else "8/255"
    return classifier, Samples.of(x.numpy(), labels.numpy(), classes, "drawn"), eps


def _side(x: Tensor) -> tuple[int, int, int]:
    channels, height, width = x.shape[1:]
    return channels, height, width


def _settle(classifier: Classifier, x: Tensor) -> None:
    """Let batch norms know what images `x` (B, C, H, W) look like, so that answers are of the usual size."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    classifier.train()
    with torch.no_grad():
        classifier(x)
    classifier.eval()


def measured(name: str, images: int, steps: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """What was timed of one network, as JSON knows it."""
    classifier, samples, eps = problem(name, images)
    timing = Timing(eps=eps, steps=steps, rounds=rounds)
    found = timing(classifier.to(device), samples, images, device, 0)
    seconds = found["seconds"]
    return {
        "network": name,
        "images": images,
        "steps": steps,
        "eps": eps,
        "device": describe(device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "floor_milliseconds": float(np.median(seconds[0]) * 1000),
        "rows": [
            {
                "label": f"{label} {version}".strip(),
                "kind": str(kind),
                "ratio": [float(q) for q in np.quantile(own / seconds[0], (0.5, 0, 1))],
                "robust": float(held.mean()),
            }
            for label, kind, version, own, held in zip(
                found["label"], found["kind"], found["version"], seconds, found["held"], strict=True
            )
        ],
    }


def table(one: dict[str, Any]) -> str:
    """What was measured of a network, for readers."""
    rows = [row for row in one["rows"] if row["kind"] != FLOOR]
    least = min((row["ratio"][0] for row in rows if row["kind"] == LIBRARY), default=None)
    lines = [
        f"{one['network']}: {one['images']} images in one batch, PGD of {one['steps']} steps, Linf {one['eps']}, "
        f"{one['device']}, torch {one['torch']}; the floor takes {one['floor_milliseconds']:.1f} ms",
        f"{'':<44}{'of the floor':>14}{'least to most':>18}{'robust':>9}{'against the fastest library':>30}",
    ]
    for row in rows:
        middle, low, high = row["ratio"]
        against = "" if least is None or row["kind"] == LIBRARY else f"{least / middle:.2f} times as fast"
        spread = f"{low:.3f} to {high:.3f}"
        lines.append(f"{row['label']:<44}{middle:>14.3f}{spread:>18}{row['robust']:>9.1%}{against:>30}")
    return "\n".join(lines)


def keep(path: Path, one: dict[str, Any]) -> None:
    """Put it into the file, in the place of an earlier measurement of the same on the same device."""
    same = ("network", "images", "steps", "eps", "device", "torch")
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [other for other in kept if any(other[key] != one[key] for key in same)]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, lambda beside: beside.write_text(json.dumps([*kept, one], indent=1) + "\n", encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tests, time all networks, print the tables and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*DRAWN, *(KNOWN if (Path(os.environ.get("TOASTPROOF_DATA", "data")) / "nets.py").is_file() else ())]
    parser.add_argument("--networks", default=",".join(known), help="some of " + ", ".join([*DRAWN, *KNOWN]))
    parser.add_argument("--images", type=int, default=256, help="in one batch")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-tests", action="store_true", help="time alone")
    parser.add_argument("--out", type=Path, help="JSON (default: docs/benchmarks/gpu/pgd.json, on a CPU cpu/pgd.json)")
    asked = parser.parse_args(arguments)
    device = choose(asked.device)
    out = asked.out or OUT / ("cpu" if device.type == "cpu" else "gpu") / "pgd.json"
    keep_memory(device)
    failed = 0
    if not asked.no_tests:
        failed = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu"], cwd=ROOT, check=False).returncode
    for name in asked.networks.split(","):
        one = measured(name, asked.images, asked.steps, asked.rounds, device)
        keep(out, one)
        print(f"\n{table(one)}", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
