"""How our L-BFGS scales: time per image against the size of the batch, and memory against the length of the history.

    TOASTPROOF_DATA=... python -m tests.benchmarks.lbfgs_scaling [--networks mlp] [--out scaling.json]

Time: the same images for every size, in batches of that size; of 64 images, or of as many as one batch needs. Memory:
the peak of `attacks.quasinewton.minimise` in float32 numbers a row and dimension beyond start and bounds, and the
straight line through these, which the project states as 2 m + k.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from attacks.goal import Goal
from eval.device import choose, synchronize
from eval.errors import InputError
from models.errors import ModelError
from tests.benchmarks.lbfgs_table import chosen, common, positive
from tests.benchmarks.memory import fit, peak
from tests.benchmarks.networks import GOALS, NETWORKS, Subject, load
from tests.benchmarks.peers import DEFAULT, methods
from tests.benchmarks.results import code, machine

BATCHES = (1, 4, 16, 64, 256, 1024)
MEMORIES = (4, 8, 16)
_LEAST = 64


def milliseconds(subject: Subject, goal: Goal, batch: int, seed: int) -> float:
    """Time per image of our default in batches of that size."""
    attack = methods([DEFAULT])[0]
    number = min(max(batch, _LEAST), len(subject.x))
    parts = torch.arange(number, device=subject.x.device).split(batch)
    attack.run(subject.network, subject.x[parts[0]], goal[parts[0]], seed)
    synchronize(subject.x.device)
    begin = time.perf_counter()
    for part in parts:
        attack.run(subject.network, subject.x[part], goal[part], seed)
    synchronize(subject.x.device)
    return 1e3 * (time.perf_counter() - begin) / number


def times(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Print and return time per image, for each network and size of batch."""
    found = []
    sizes = [b for b in BATCHES if b <= options.largest]
    print(f"ms per image of our default, {options.goal}, by the size of the batch")
    print(f"{'network':<22}" + "".join(f"{b:>9}" for b in sizes) + "   images")
    for name in options.networks:
        subject = load(name, max(_LEAST, *sizes), options.first, str(device))
        goal = subject.goal(options.goal, options.seed)
        print(f"{name:<22}", end="", flush=True)
        for batch in sizes:
            if batch > len(subject.x):
                break
            took = milliseconds(subject, goal, batch, options.seed)
            found.append({"network": name, "goal": options.goal, "batch": batch, "milliseconds": took})
            print(f"{took:9.2f}", end="", flush=True)
        print(f"   {len(subject.x)} from number {subject.first} on")
    return found


def memories(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Print and return the peaks, and the line through them."""
    found = []
    print(
        f"\npeak floats / (B D) of minimise beyond start and bounds, B = {options.rows}, D = {options.dim}, on {device}"
    )
    print(f"{'':<22}" + "".join(f"{'m = ' + str(m):>9}" for m in MEMORIES) + "   fit")
    for finishing in (False, True):
        peaks = [peak(m, finishing, options.rows, options.dim, device) for m in MEMORIES]
        slope, constant, off = fit(peaks)
        found += [asdict(p) for p in peaks]
        label = "half leave early" if finishing else "no row leaves"
        print(
            f"{label:<22}"
            + "".join(f"{p.floats:9.1f}" for p in peaks)
            + f"   {slope:.2f} m + {constant:.1f}, within {off:.2f}"
            + ("" if slope < 2.2 else "; more than the 2 m + k that is claimed")
        )
    return found


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.lbfgs_scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", default="mlp,mnist_lenet5_clean", help="default: %(default)s")
    parser.add_argument("--goal", default="untargeted", choices=GOALS)
    parser.add_argument("--largest", type=positive, default=max(BATCHES), help="batch; default: %(default)s")
    parser.add_argument("--rows", type=positive, default=64, help="B of the memory; default: %(default)s")
    parser.add_argument("--dim", type=positive, default=784, help="D of the memory; default: %(default)s")
    common(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the numbers")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the two tables; exit code 2 after a request that cannot be met."""
    options = arguments().parse_args(argv)
    try:
        options.networks = chosen("--networks", options.networks, NETWORKS)
        device = choose(options.device)
        torch.set_num_threads(options.threads)
        found: dict[str, Any] = {"machine": machine(device), "code": code()}
        found["time"] = times(options, device)
        found["memory"] = memories(options, device)
    except (InputError, ModelError) as problem:
        print(problem, file=sys.stderr)
        return 2
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
