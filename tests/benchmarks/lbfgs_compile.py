"""Whether `torch.compile` pays for the kernels of our L-BFGS: time of a call plain and compiled, and of the first call.

python -m tests.benchmarks.lbfgs_compile [--rows 64] [--dim 784] [--device cpu]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attacks import asking
from attacks.halfspaces import nearest
from attacks.inverse_hessian import inverse_hessian_times
from eval.device import choose, synchronize
from eval.errors import InputError
from tests.benchmarks.lbfgs_table import positive

_REPEATS, _MEMORY, _COMPETITORS = 50, 8, 4


def problems(rows: int, dim: int, device: torch.device) -> dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]]:
    """The kernels, with arguments of the sizes of a search."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(device)

    low, high = -torch.rand(rows, dim, generator=g).to(device), torch.rand(rows, dim, generator=g).to(device)
    steps = draw(rows, _MEMORY, dim)
    history = torch.cat([steps, steps + 0.1 * draw(rows, _MEMORY, dim)], 1)
    ones = torch.ones(rows, device=device)
    pairs = torch.full((rows,), _MEMORY, device=device)
    return {
        "nearest": (lambda *a: nearest(*a, steps=4), (draw(rows, _COMPETITORS, dim), 3 * draw(rows, 4), low, high)),
        "inverse Hessian": (
            inverse_hessian_times,
            (draw(rows, dim), torch.ones_like(low), ones, history, 0.1 * ones, pairs),
        ),
    }


def milliseconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        synchronize(device)
        begin = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return 1e3 * sorted(times)[len(times) // 2]


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.lbfgs_compile",
        description="Time of the kernels of our L-BFGS, plain and compiled.",
    )
    parser.add_argument("--rows", type=positive, default=64, help="B; default: %(default)s")
    parser.add_argument("--dim", type=positive, default=784, help="D; default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--threads", type=positive, default=1, help="of torch on the CPU; default: %(default)s")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        device = choose(options.device)
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(
        f"B = {options.rows}, D = {options.dim}, m = {_MEMORY}, J = {_COMPETITORS}, {device}, torch {torch.__version__}"
    )
    # A compiled kernel asks nothing, as on a GPU: both are timed so.
    asks, asking.waits = asking.waits, lambda x: True
    try:
        for name, (kernel, arguments) in problems(options.rows, options.dim, device).items():
            plain = milliseconds(lambda: kernel(*arguments), device, _REPEATS)  # noqa: B023
            compiled = torch.compile(kernel)
            first = milliseconds(lambda: compiled(*arguments), device, 1)  # noqa: B023
            after = milliseconds(lambda: compiled(*arguments), device, _REPEATS)  # noqa: B023
            print(f"{name:<16} plain {plain:.2f} ms, compiled {after:.2f} ms after a first call of {first / 1e3:.1f} s")
    finally:
        asking.waits = asks
    return 0


if __name__ == "__main__":
    sys.exit(main())
