"""What a larger evaluation will take, from a small one: a command that prints a table.

    python -m eval.costs RUN --samples 50000 --models 10 --workers 1,8,64

With --passes-per-second a device that somebody has timed takes the place of the clock: a pass is a forward or a
backward of one image, as records count them, and a judgement is two. Free of torch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from eval.errors import InputError
from eval.forecast import ENOUGH, Forecast, advise, predict
from eval.records import Run
from eval.spent import DRIVER, START, Costs, read

WORKERS = (1, 2, 4, 8, 16, 64)
"""That the table has if nobody says otherwise."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{' '.join(message.split())}; {self.prog} --help shows what is allowed")


def _number(least: float, whole: bool) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = int(text.replace("_", "")) if whole else float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            kind = "a whole number" if whole else "a number"
            raise argparse.ArgumentTypeError(f"must be {kind} of at least {least:g}, got {text!r}")
        return value

    return parse


def _several(text: str) -> list[int]:
    return [int(_number(1, True)(one)) for one in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m eval.costs",
        description="What a run took, and what it would take with more samples, networks and workers.",
    )
    whole, any_number = _number(1, True), _number(0, False)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run; it need not be complete")
    parser.add_argument("--samples", type=whole, help="of each network (default: those of the run)")
    parser.add_argument("--models", type=whole, help="networks that are on average like those (default: as many)")
    parser.add_argument("--workers", type=_several, default=list(WORKERS), help="numbers, such as 1,8,64")
    parser.add_argument("--shard", type=whole, help="samples in a part (default: run.shard of the run)")
    parser.add_argument("--start", type=any_number, help=f"seconds until networks are built (the run's, or {START:g})")
    parser.add_argument("--driver", type=any_number, default=DRIVER, help=f"seconds for a part ({DRIVER:g})")
    parser.add_argument(
        "--passes-per-second", type=_number(1e-9, False), metavar="N", help="of a device: take these, not the clock"
    )
    return parser


def spoken(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> spoken(42), spoken(4500), spoken(1e6)
    ('42 s', '1.2 h', '11.6 days')
    """
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _size(count: float) -> str:
    for power, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _range(low: float, high: float) -> str:
    return "no interval" if math.isnan(low) else f"{low:.3g} to {high:.3g}"


def taken(costs: Costs) -> list[str]:
    """What the run took, in lines."""
    lines = [f"{'network':<24}{'attack':<16}{'eps':<8}{'parts':>6}{'samples':>9}  {'s/sample (95%)':<32}passes (95%)"]
    for cell in costs.cells:
        seconds, passes = cell.mean(cell.seconds), cell.mean(cell.passes)
        said = f"{seconds:.3g} ({_range(*cell.interval(cell.seconds))})"
        lines.append(
            f"{cell.source:<24}{cell.attack:<16}{cell.text:<8}{len(cell.samples):>6}{cell.samples.sum():>9.0f}  "
            f"{said:<32}{passes:.4g} ({_range(*cell.interval(cell.passes))})"
        )
    judged = "not known" if costs.judging is None else f"{costs.judging:.3g} s"
    start = "not known: some were trained" if costs.start is None else spoken(costs.start)
    lines.append(f"a judgement: {judged} for an image; networks ready: {start}; {costs.bytes:.0f} bytes for a record")
    if costs.failed:
        lines.append(f"left out: {costs.failed} parts in which something crashed")
    return lines


def sentence(forecast: Forecast) -> str:
    """What a forecast says.

    >>> sentence(Forecast(workers=64, shard=128, parts=3910, work=720_000.0, wall=11_600.0, limit="work"))
    '64 workers would be busy 97% of the time with run.shard=128, for 3.2 h'
    """
    many = f"{forecast.workers:,} worker{'' if forecast.workers == 1 else 's'}"
    busy, shard = f"{forecast.busy:.0%} of the time", f"run.shard={forecast.shard}"
    return f"{many} would be busy {busy} with {shard}, for {spoken(forecast.wall)}"


def foreseen(
    costs: Costs, samples: int, shard: int, workers: Sequence[int], start: float | None, driver: float
) -> list[str]:
    """What so many samples will take, in lines."""
    job = costs.job(samples, start, driver)
    low, high = (samples * end * costs.models / len({cell.source for cell in costs.cells}) for end in costs.interval())
    interval = "no interval: too few parts" if math.isnan(low) else f"95%: {spoken(low)} to {spoken(high)}"
    first = predict(job, 1, shard)
    measured = max(float(cell.samples.max()) for cell in costs.cells)
    size = _size(costs.disk(samples, shard) + costs.kept)
    many = f"{costs.models} network{'' if costs.models == 1 else 's'}"
    lines = [
        f"{samples:,} samples x {many}: {first.parts:,} parts of {shard}, {spoken(job.work)} of work "
        f"({interval}), {size} on disk; the process that leads is alone for {spoken(job.lead)}, "
        f"a worker begins after {spoken(job.start)}{' (assumed)' if start is None and costs.start is None else ''}",
        f"{'workers':>8}{'on the clock':>15}{'busy':>7}  {'limited by':<16}with better shards",
    ]
    for number in workers:
        now, better = predict(job, number, shard), advise(job, number)
        some = now.busy < ENOUGH and better.busy > now.busy + 0.01
        advice = f"run.shard={better.shard}: {better.busy:.0%}" if some else ""
        lines.append(f"{number:>8,}{spoken(now.wall):>15}{now.busy:>7.0%}  {now.limit:<16}{advice}".rstrip())
    best = max(predict(job, workers[-1], shard), advise(job, workers[-1]), key=lambda found: round(found.busy, 2))
    lines.append(f"{sentence(best)}; workers that die or slow one another down are not foreseen")
    if not costs.given and not measured / 2 <= shard <= measured * 2:
        lines.append(
            f"measured in parts of {measured:.0f}, foreseen in parts of {shard}: a network that is asked for more "
            "images at once takes less for each; measure with that run.shard to be sure"
        )
    return lines


def _told(chosen: argparse.Namespace) -> list[str]:
    about, costs = Run.read(chosen.run), read(chosen.run)
    lines = taken(costs)
    if chosen.passes_per_second is not None:
        costs = costs.at(chosen.passes_per_second)
        lines.append(f"from here on with {chosen.passes_per_second:g} passes a second, as given, in place of the clock")
    if chosen.models is not None:
        costs = costs.on(chosen.models)
    samples = chosen.samples or about.data["n"]
    shard = min(chosen.shard or about.config["run"]["shard"], samples)
    return [*lines, "", *foreseen(costs, samples, shard, chosen.workers, chosen.start, chosen.driver)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what it refuses it says in one line, with exit status 2."""
    try:
        lines = _told(_parser().parse_args(arguments))
    except InputError as error:
        print(f"costs: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print("\n".join(lines))


if __name__ == "__main__":
    main()
