"""Small networks for digits, trained once and kept beside this file.

They compute in float64: what attacks do is then the same on every machine, up to rounding that reaches no outcome.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

HERE = Path(__file__).parent


class Double(nn.Module):
    """A network that takes and returns float32 and computes in float64."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.double())
        return out


def bare(name: str) -> nn.Sequential:
    """A network without its weights."""
    if name == "softmax":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    if name == "mlp_relu":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    features = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(128, 10))


def _kept(name: str) -> Double:
    body = bare(name)
    body.load_state_dict(load_file(HERE / f"{name}.safetensors"))
    return Double(body)


def softmax() -> Double:
    return _kept("softmax")


def mlp_relu() -> Double:
    return _kept("mlp_relu")


def cnn() -> Double:
    return _kept("cnn")
