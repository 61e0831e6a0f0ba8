"""Our standard attack beside the original AutoAttack: robust accuracy, forwards, backwards and time, in one run.

    python -m tests.benchmarks.autoattack_table --autoattack FOLDER --networks mnist_lenet5_adv --images 1000

FOLDER holds a checkout of the original program (github.com/fra31/auto-attack), which is no dependency of this project
and no part of it. Both are given the same images in the same order, in slices that take turns, so that other work on
the machine slows both down alike; each slice is kept once it is done, and a command that is started again goes on.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.rng import Rng
from attacks.standard import Standard
from attacks.threat import ThreatModel, parse_eps
from eval.device import choose, synchronize
from eval.errors import InputError
from eval.intervals import wilson
from eval.records import replace
from tests.benchmarks.networks import NETWORKS, load
from tests.benchmarks.results import machine

BUDGETS = {
    "mlp": ("0.1",),
    "mnist_lenet5_clean": ("0.1",),
    "mnist_lenet5_adv": ("0.3",),
    "mnist_trades_smallcnn": ("0.3",),
    "cifar10_resnet20": ("2/255",),
    "cifar10_resnet4b": ("2/255", "8/255"),
}
METHODS = ("ours", "autoattack")


@dataclass(frozen=True)
class Slice:
    """What one method made of some images.

    Attributes:
        network, eps, method: what was run.
        first: number of the first image among those that the network classifies correctly.
        images: how many.
        robust: which of them are left standing, as a string of 0 and 1.
        forwards, backwards: images that went through the network, per image of the slice.
        seconds: for all of them.
        machine: what the time depends on.
    """

    network: str
    eps: str
    method: str
    first: int
    images: int
    robust: str
    forwards: float
    backwards: float
    seconds: float
    machine: dict[str, Any]

    @property
    def place(self) -> tuple[Any, ...]:
        """What a later measurement replaces."""
        return self.network, self.eps, self.method, self.first, self.images


class Counted(nn.Module):
    """A network that counts the images that go through it, forwards and backwards."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        z: Tensor = self.network(x)
        if z.requires_grad:
            count = len(x)
            z.register_hook(lambda _: self._went_back(count))
        return z

    def _went_back(self, count: int) -> None:
        self.backwards += count


def ours(network: nn.Module, x: Tensor, labels: Tensor, eps: float, seed: int) -> Tensor:
    """Candidates of `attack=standard`."""
    rng = Rng.of(seed, ["attack", "standard"], map(str, range(len(x))), x.device)
    return Standard()(network, x, Goal(labels), ThreatModel("linf", eps), rng=rng)


def theirs(network: nn.Module, x: Tensor, labels: Tensor, eps: float, seed: int) -> Tensor:
    """Candidates of the original, as its `standard` version makes them."""
    original = importlib.import_module("autoattack").AutoAttack
    attack = original(network, norm="Linf", eps=eps, seed=seed, verbose=False, device=str(x.device))
    found: Tensor = attack.run_standard_evaluation(x, labels, bs=len(x))
    return found


def measured(method: str, network: nn.Module, x: Tensor, labels: Tensor, eps: float, seed: int) -> dict[str, Any]:
    """What a method makes of a slice; whatever it returns is judged here, on the box and the budget too."""
    counted = Counted(network)
    synchronize(x.device)
    began = time.perf_counter()
    found = {"ours": ours, "autoattack": theirs}[method](counted, x, labels, eps, seed)
    synchronize(x.device)
    seconds = time.perf_counter() - began
    threat = ThreatModel("linf", eps)
    with torch.no_grad():
        wrong = network(found).argmax(1) != labels
    broken = wrong & threat.within(found, x) & threat.inside_box(found)
    return {
        "robust": "".join("01"[int(not b)] for b in broken.tolist()),
        "forwards": counted.forwards / len(x),
        "backwards": counted.backwards / len(x),
        "seconds": seconds,
    }


def read(path: Path | None) -> dict[tuple[Any, ...], Slice]:
    """The slices that a file holds."""
    if path is None or not path.exists():
        return {}
    try:
        slices = [Slice(**row) for row in json.loads(path.read_text())]
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(f"{path}: must hold results of this command, got {error}") from None
    return {s.place: s for s in slices}


def table(slices: list[Slice]) -> str:
    """Markdown: one row for each network and eps, over the images that both methods have had."""
    lines = [
        "| network | eps | n | ours | AutoAttack | only ours breaks | only AutoAttack breaks "
        "| evaluations ours / AutoAttack | time AutoAttack / ours |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for network, eps in dict.fromkeys((s.network, s.eps) for s in slices):
        both: dict[str, dict[int, Slice]] = {m: {} for m in METHODS}
        for s in slices:
            if (s.network, s.eps) == (network, eps):
                both[s.method][s.first] = s
        common = sorted(both["ours"].keys() & both["autoattack"].keys())
        if not common:
            continue
        left = {m: np.array([int(b) for f in common for b in both[m][f].robust]) for m in METHODS}
        n = len(left["ours"])
        cells = []
        for method in METHODS:
            low, high = wilson(left[method].sum(), n)
            cells.append(f"{left[method].mean():.1%} [{float(low):.1%}, {float(high):.1%}]")
        spent = {
            m: sum((both[m][f].forwards + both[m][f].backwards) * both[m][f].images for f in common) / n
            for m in METHODS
        }
        seconds = {m: sum(both[m][f].seconds for f in common) for m in METHODS}
        only = [int(((left[a] == 0) & (left[b] == 1)).sum()) for a, b in (METHODS, METHODS[::-1])]
        lines.append(
            f"| {network} | {eps} | {n} | {cells[0]} | {cells[1]} | {only[0]} | {only[1]} | "
            f"{spent['ours']:.0f} / {spent['autoattack']:.0f} | {seconds['autoattack'] / seconds['ours']:.2f} |"
        )
    return "\n".join(lines)


def in_turns(parser: argparse.ArgumentParser, networks: str) -> None:
    """Add the options of a command that takes the images of networks, by default of these, in slices."""
    parser.add_argument("--networks", default=networks)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first test image; default: %(default)s")
    parser.add_argument("--slice", type=int, default=100, help="images per turn; default: %(default)s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.autoattack_table", description=__doc__)
    parser.add_argument("--autoattack", type=Path, metavar="FOLDER", help="checkout of the original program")
    in_turns(parser, "mnist_lenet5_adv,mnist_trades_smallcnn,cifar10_resnet4b")
    parser.add_argument("--eps", help="budgets, of those that are measured of a network; default: all")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the results, and go on from them")
    parser.add_argument("--markdown", type=Path, metavar="FILE.json", help="only print the table of a file")
    return parser


def run(options: argparse.Namespace) -> list[Slice]:
    """Measure what is missing."""
    if options.autoattack is not None:
        sys.path.insert(0, str(options.autoattack))
    methods = options.methods.split(",")
    if "autoattack" in methods and importlib.util.find_spec("autoattack") is None:
        raise InputError("--autoattack: must be a checkout of github.com/fra31/auto-attack; or give --methods ours")
    torch.set_num_threads(options.threads)
    device = choose(options.device)
    known = read(options.out)
    for name in options.networks.split(","):
        if name not in NETWORKS:
            raise InputError(f"--networks: {name!r} is none of {', '.join(NETWORKS)}")
        subject = load(name, options.images, options.first, str(device))
        wanted = options.eps.split(",") if options.eps else BUDGETS[name]
        for text in (t for t in BUDGETS[name] if t in wanted):
            for start in range(0, len(subject.x), options.slice):
                part = slice(start, start + options.slice)
                x, labels = subject.x[part], subject.labels[part]
                for method in methods:
                    head = {"network": name, "eps": text, "method": method, "first": start, "images": len(x)}
                    if (name, text, method, start, len(x)) in known:
                        continue
                    found = measured(method, subject.network, x, labels, parse_eps(text), options.seed)
                    one = Slice(**head, **found, machine=machine(device))
                    known[one.place] = one
                    left, each = one.robust.count("1"), one.seconds / len(x)
                    print(
                        f"{name} {text} {method} {start}: {left} of {len(x)} left, {one.forwards:.0f} + "
                        f"{one.backwards:.0f} evaluations and {each:.2f} s an image",
                        flush=True,
                    )
                    if options.out is not None:
                        content = json.dumps([asdict(s) for s in known.values()], indent=0)
                        replace(options.out, lambda path, content=content: path.write_text(content))
    return list(known.values())


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 2 after a request that cannot be met."""
    options = arguments().parse_args(argv)
    try:
        print(table(list(read(options.markdown).values()) if options.markdown else run(options)))
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
