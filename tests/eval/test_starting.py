"""What is imported before the first step of an attack: nothing that a small run does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = """
import os, sys
from eval import __main__, meter

def first(self, x, index):
    print("first:", sorted(set({names!r}) & set(sys.modules)), flush=True)
    os._exit(0)

if sys.argv[1] == "stop":
    meter.Meter._asked = first
sys.argv[1:] = sys.argv[2:]
__main__.main()
"""
_NAMES = ("sklearn", "scipy", "foolbox", "torchvision", "skimage", "torch._dynamo", "torch.onnx")


def test_the_first_step_of_an_attack_comes_before_what_is_not_needed_for_it(tmp_path):
    """With networks that are trained: training needs PyTorch's compiler for its optimisers."""
    code = _CODE.format(names=_NAMES)
    small = ["model=softmax", "attack=fgsm", "debug=quick", f"paths.checkpoints={tmp_path / 'checkpoints'}"]
    for mode in ("train", "stop"):
        told = subprocess.run(
            [sys.executable, "-c", code, mode, *small, f"hydra.run.dir={tmp_path / mode}"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "found in the checkpoints" in told.stdout
    assert "first: []" in told.stdout
