from __future__ import annotations

import pytest
import torch

from attacks import asking
from tests.benchmarks import lbfgs_compile


def test_both_kernels_are_timed_plain_and_compiled(monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda kernel: compiled.append(kernel) or kernel)
    before = asking.waits
    assert lbfgs_compile.main(["--rows", "3", "--dim", "20", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(compiled) == 2
    assert lines[1].startswith("nearest")
    assert lines[2].startswith("inverse Hessian")
    assert all("plain" in line and "compiled" in line for line in lines[1:])
    assert asking.waits is before


def test_an_unknown_device_is_one_line(capsys):
    assert lbfgs_compile.main(["--device", "tpu"]) == 2
    assert capsys.readouterr().err.startswith("device: must be")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.torch._prims_common.check. is deprecated:FutureWarning"
)  # torch 2.15 warns of itself
def test_what_is_compiled_gives_the_same():
    for kernel, arguments in lbfgs_compile.problems(4, 30, torch.device("cpu")).values():
        plain, compiled = kernel(*arguments), torch.compile(kernel)(*arguments)
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)
