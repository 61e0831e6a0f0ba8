"""Print our L-BFGS beside Foolbox's DDN: success, mean and median RMS, evaluations and time per image, in one run.

    TOASTPROOF_DATA=... python tests/benchmarks/lbfgs_table.py [--images 100] [--networks mlp,mnist_lenet5_clean]

The networks are an MLP of sigmoids, trained here in seconds, and the known ones of the data folder's `nets.py`.
RMS is sqrt(sum((x' - x)^2) / n), over the images on which all methods of the row's group succeed. Evaluations are
forwards and backwards per image.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import unlimited

NETWORKS = ("mlp", "mnist_lenet5_clean", "mnist_lenet5_adv", "cifar10_resnet20")


class Counted(nn.Module):
    """A network that counts the rows that go through it, forward and backward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        z: Tensor = self.network(x)
        if z.requires_grad:
            z.register_hook(self.back)
        return z

    def back(self, grad: Tensor) -> None:
        self.backwards += len(grad)


@dataclass
class Row:
    """What one method did on n images."""

    method: str
    reached: Tensor  # (n,) bool
    rms: Tensor  # (n,)
    forwards: float
    backwards: float
    milliseconds: float


def sigmoid_mlp(x: Tensor, y: Tensor) -> nn.Module:
    """A 784-100-100-10 network of sigmoids, trained for eight epochs."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 100), nn.Sigmoid(), nn.Linear(100, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return net


def load(name: str, folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, and test images with their labels."""
    from torchvision.datasets import MNIST

    spec = importlib.util.spec_from_file_location("known_networks", folder / "nets.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder / 'nets.py'}: must be there; set TOASTPROOF_DATA to the folder with the data")
    known = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(known)
    if name.startswith("cifar10"):
        data = np.load(folder / "cifar10" / "test1000.npz")
        images = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
        return getattr(known, name)(), images, torch.from_numpy(data["y"]).long()
    train, test = (MNIST(folder, train=t, download=False) for t in (True, False))
    images = test.data[:, None].float() / 255
    if name == "mlp":
        return sigmoid_mlp(train.data[:, None].float() / 255, train.targets), images, test.targets
    return getattr(known, name)(), images, test.targets


def measure(method: str, net: nn.Module, x: Tensor, goal: Goal, attack: Callable[[nn.Module], Tensor]) -> Row:
    """Run `attack` on a counted network."""
    counted = Counted(net).eval()
    begin = time.perf_counter()
    x_adv = attack(counted).detach()
    if x.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        reached = goal.reached(net(x_adv))
    rms = (x_adv - x).flatten(1).square().mean(1).sqrt()
    n = len(x)
    return Row(method, reached, rms, counted.forwards / n, counted.backwards / n, 1e3 * seconds / n)


def foolbox_ddn(steps: int, x: Tensor, goal: Goal) -> Callable[[nn.Module], Tensor]:
    """Foolbox's DDN with that many steps."""
    import foolbox

    def attack(net: nn.Module) -> Tensor:
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device=x.device)
        criterion = (
            foolbox.Misclassification(goal.labels)
            if goal.targets is None
            else foolbox.TargetedMisclassification(goal.targets)
        )
        found: Tensor = foolbox.attacks.DDNAttack(steps=steps)(model, x, criterion, epsilons=None)[1]
        return found

    return attack


def compare(net: nn.Module, x: Tensor, goal: Goal) -> list[Row]:
    """Ours, then DDN with 100 and with 1,000 steps."""
    streams = Rng.of(0, ["table"], map(str, range(len(x))), device=x.device)
    rows = [measure("L-BFGS", net, x, goal, lambda n: LBFGS()(n, x, goal, unlimited("l2"), rng=streams))]
    rows += [measure(f"DDN {s}", net, x, goal, foolbox_ddn(s, x, goal)) for s in (100, 1000)]
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    folder = Path(os.environ.get("TOASTPROOF_DATA", "data"))
    print(f"{'network':<20} {'goal':<10} {'method':<9} success  mean RMS  median RMS  forwards backwards  ms/image")
    for name in options.networks.split(","):
        net, images, labels = load(name, folder)
        net = net.to(options.device).eval().requires_grad_(False)
        x, y = images[: 2 * options.images].to(options.device), labels[: 2 * options.images].to(options.device)
        right = (net(x).argmax(1) == y).nonzero()[: options.images, 0]
        x, y = x[right], y[right]
        shift = torch.randint(1, 10, (len(y),), generator=torch.Generator().manual_seed(1)).to(y)
        for kind, goal in (("untargeted", Goal(y)), ("targeted", Goal(y, (y + shift) % 10))):
            rows = compare(net, x, goal)
            common = torch.stack([r.reached for r in rows]).all(0)
            for r in rows:
                print(
                    f"{name:<20} {kind:<10} {r.method:<9} {r.reached.float().mean():7.1%}"
                    f"  {r.rms[common].mean():8.5f}  {r.rms[common].median():10.5f}"
                    f"  {r.forwards:8.1f} {r.backwards:9.1f}  {r.milliseconds:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
