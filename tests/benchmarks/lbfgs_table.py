"""Our L-BFGS beside the other searches for minimal L2 distortion: success, RMS, evaluations and time, in one run.

    TOASTPROOF_DATA=... python -m tests.benchmarks.lbfgs_table --out table.json
    python -m tests.benchmarks.lbfgs_table --markdown table.json [--brief]

The images are the first ones, from a number on, that a network classifies correctly; by default that number lies
behind all images on which settings were chosen (MNIST test from 7000, CIFAR-10 test from 600). RMS is
sqrt(sum((x' - x)^2) / D) with pixels in [0, 1]. The time of a method is that of one run after a warm-up on two images;
our default is timed on the same images, for the heavy methods (SciPy, C&W) again right before them.
With --out, a command that is started again measures what is missing.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from eval.device import choose
from eval.errors import InputError
from models.errors import ModelError
from tests.benchmarks import markdown
from tests.benchmarks.measure import measure
from tests.benchmarks.networks import GOALS, NETWORKS, Subject, load
from tests.benchmarks.peers import DEFAULT, Method, methods
from tests.benchmarks.results import Results, Row, code, machine, read
from tests.benchmarks.summary import groups, text


def positive(string: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(string)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {value}")
    return value


def common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command here."""
    parser.add_argument("--first", type=int, help="test image to begin at; default: 7000 of MNIST, 600 of CIFAR-10")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=positive, default=1, help="of torch on the CPU; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of targets and attacks; default: %(default)s")


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.lbfgs_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", default=",".join(NETWORKS), help="default: %(default)s")
    parser.add_argument("--goals", default=",".join(GOALS), help="default: %(default)s")
    parser.add_argument("--methods", help=f"default: all of {','.join(m.name for m in methods())}")
    parser.add_argument("--images", type=positive, default=100, help="per network; default: %(default)s")
    parser.add_argument("--heavy-images", type=positive, help="of these, for SciPy and C&W; default: all")
    common(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the results, and go on from them")
    parser.add_argument("--fresh", action="store_true", help="measure again what --out holds")
    parser.add_argument("--markdown", type=Path, nargs="+", metavar="FILE.json", help="print Markdown from results")
    parser.add_argument("--brief", action="store_true", help="with --markdown: one table a goal, for a README")
    return parser


def chosen(option: str, string: str, known: tuple[str, ...]) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        InputError: one is unknown.
    """
    names = string.split(",")
    for name in names:
        if name not in known:
            raise InputError(f"{option}: {name!r} is none of {', '.join(known)}")
    return names


def named(options: argparse.Namespace) -> list[Method]:
    """The methods that `--methods` names, or all."""
    return methods(options.methods.split(",") if options.methods else None)


def blank(subject: Subject, kind: str, method: Method, images: int, seed: int) -> Row:
    """The row of a measurement yet to be made."""
    return Row(
        network=subject.name, goal=kind, method=method.name, images=images, first=subject.first, seed=seed,
        settings=method.settings, package=f"{method.package} {method.version}".strip(),
        machine=machine(subject.x.device), weights=subject.weights,
        code="" if method.package else code(), label=method.label,
    )  # fmt: skip


class Bench:
    """Measures the methods on one network and goal, in their order.

    Args:
        subject: network and images.
        kind: of goal.
        seed: of targets and attacks.
        results: where rows are looked up and kept.
    """

    def __init__(self, subject: Subject, kind: str, seed: int, results: Results) -> None:
        self.subject, self.kind, self.seed, self.results = subject, kind, seed, results
        self.goal = subject.goal(kind, seed)
        self.default = methods([DEFAULT])[0]
        self.timed: dict[int, float] = {}  # ms per image of the default, by the number of images

    def row(self, method: Method, images: int) -> Row:
        """The row of a method, from the results or measured now."""
        row = blank(self.subject, self.kind, method, images, self.seed)
        known = self.results.find(row)
        if known is not None:
            return known
        index = torch.arange(images, device=self.subject.x.device)
        x, goal = self.subject.x[index], self.goal[index]
        if method.name != DEFAULT and (method.heavy or images not in self.timed):
            self.timed[images] = measure(self.default, self.subject.network, x, goal, self.seed).milliseconds
        made = measure(method, self.subject.network, x, goal, self.seed)
        if method.name == DEFAULT:
            self.timed[images] = made.milliseconds
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        row = replace(row, **asdict(made), default_milliseconds=self.timed[images], date=today)
        self.results.put(row)
        return row


def run(options: argparse.Namespace) -> None:
    """Measure what is asked for and print it as it comes."""
    networks = chosen("--networks", options.networks, NETWORKS)
    goals = chosen("--goals", options.goals, GOALS)
    wanted = named(options)
    device = choose(options.device)
    torch.set_num_threads(options.threads)
    code()  # before anything runs, while the sources are those that were imported
    for reason in dict.fromkeys(m.missing for m in wanted if m.missing):
        print(f"left out: {', '.join(m.name for m in wanted if m.missing == reason)}: {reason}", flush=True)
    results = Results(options.out, options.fresh)
    for name in networks:
        subject = load(name, options.images, options.first, str(device))
        n = len(subject.x)
        if n < options.images:
            print(f"{name}: only {n} test images from number {subject.first} on are classified correctly", flush=True)
        for kind in goals:
            bench = Bench(subject, kind, options.seed, results)
            for method in (m for m in wanted if not m.missing):
                images = min(n, options.heavy_images or n) if method.heavy else n
                print(progress(bench.row(method, images)), flush=True)
            row = blank(subject, kind, bench.default, n, options.seed)
            print("\n" + text(next(g for g in groups(results.rows) if g[0].group == row.group)) + "\n", flush=True)


def progress(row: Row) -> str:
    """A line about a row when it is done."""
    hit = [r for r, reached in zip(row.rms, row.reached, strict=True) if reached]
    mean = f"{sum(hit) / len(hit):#.4g}" if hit else "-"
    return (
        f"{row.network} {row.goal} {row.method}: {len(hit)} of {row.images} fooled, mean RMS of these {mean}, "
        f"{row.forwards:.0f} forwards and {row.milliseconds:.1f} ms an image"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 2 after a request that cannot be met."""
    options = arguments().parse_args(argv)
    try:
        if options.markdown:
            brief = options.brief and not options.methods
            wanted = set(markdown.BRIEF) if brief else {m.name for m in named(options)}
            rows = [row for path in options.markdown for row in read(path) if row.method in wanted]
            print((markdown.brief if options.brief else markdown.full)(rows))
        else:
            run(options)
    except (InputError, ModelError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
