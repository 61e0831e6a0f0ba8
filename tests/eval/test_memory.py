"""Memory that a network takes, and the batch that fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from eval import memory
from eval.errors import InputError
from eval.floor import floor
from eval.memory import Footprint, footprint, free
from eval.records import Run, read_records
from eval.run import run
from reports.build import write

CPU = torch.device("cpu")


def test_what_an_image_takes_is_what_its_layers_keep():
    def network(x: Tensor) -> Tensor:
        return x.flatten(1).square().exp().sum(1, keepdim=True)

    found = footprint(network, torch.rand(8, 1, 100, 100))
    values = 100 * 100
    assert found.values == values
    # the square and its exponential are kept for the gradient; at the peak two gradients live beside them, or three
    assert 3 <= found.image / (4 * values) <= 6


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_it_is_a_line_in_the_batch(batch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 28 * 28, 10))
    net.requires_grad_(False)
    found = footprint(net, torch.rand(4, 3, 32, 32))
    x = torch.rand(batch, 3, 32, 32)
    assert memory.peak(lambda: floor(net, x, 1), CPU) == pytest.approx(found.fixed + batch * found.image, rel=0.05)


def test_a_single_image_is_enough_to_measure():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).requires_grad_(False)
    assert footprint(net, torch.rand(1, 3, 2, 2)).image > 0


@pytest.mark.parametrize(
    ("image", "gibibytes", "expected"),
    [(1e5, 8, 256), (37e6, 20, 32), (87e6, 20, 16), (87e6, 4, 4), (2e9, 8, 1), (87e6, 0, 1)],
)
def test_batches_are_powers_of_two_that_fit(image, gibibytes, expected):
    found = Footprint(image, 0.0, 3 * 224 * 224 if image > 1e6 else 784)
    assert found.fits(gibibytes << 30) == expected
    assert found.fits(gibibytes << 30) * image * 4 <= max(gibibytes << 30, image * 4)


def test_what_is_fixed_is_taken_off():
    assert Footprint(50e6, 1e9, 1000).fits(4 << 30) < Footprint(50e6, 0.0, 1000).fits(4 << 30)


def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch):
    limit, use = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "_CGROUPS", ((str(limit), str(use)),))
    whole = free(CPU)
    assert whole > 1 << 26
    limit.write_text("max\n")
    use.write_text("5\n")
    assert free(CPU) == pytest.approx(whole, rel=0.2)
    limit.write_text("70000000\n")
    use.write_text("20000000\n")
    assert free(CPU) == 50_000_000
    use.write_text("90000000\n")
    assert free(CPU) == 0


def test_a_run_takes_the_batch_that_fits_and_says_so(composed, tmp_path, monkeypatch):
    small = ("model=[mlp,cnn]", "train.epochs=1", "data.limit=40", "attack=[fgsm]", "threat.curve=[]")
    (tmp_path / "a").mkdir()
    about = run(composed(*small), tmp_path / "a", [], Console(quiet=True))
    assert [m["batch_size"] for m in about.models] == [256, 256]
    assert all(m["bytes_per_image"] > 0 for m in about.models)
    each = max(4 * m["bytes_per_image"] for m in about.models) + 64 * 4 * 64
    monkeypatch.setattr("eval.forms.free", lambda device: int(2 * 9 * each))
    (tmp_path / "b").mkdir()
    tight = run(composed(*small), tmp_path / "b", [], Console(quiet=True))
    assert min(m["batch_size"] for m in tight.models) == 8
    one, other = (read_records(tmp_path / f).drop(columns="seconds") for f in "ab")
    keys = ["source", "target_model", "role", "attack", "eps_text", "sample"]
    assert one.sort_values(keys).reset_index(drop=True).equals(other.sort_values(keys).reset_index(drop=True))


@pytest.mark.parametrize("wrong", ["0", "-3", "half", "2.5"])
def test_a_wrong_batch_size_is_refused(composed, wrong):
    with pytest.raises(InputError, match="batch_size: must be auto, or a whole number of at least 1"):
        run(composed(f"batch_size={wrong}"), Path(), [], Console(quiet=True))


def test_a_run_on_a_number_keeps_to_it(composed, tmp_path):
    about: Run = run(
        composed("model=mlp", "train.epochs=1", "data.limit=20", "attack=[fgsm]", "batch_size=7"),
        tmp_path, [], Console(quiet=True),
    )  # fmt: skip
    assert about.models[0]["batch_size"] == 7
    page = write(tmp_path).read_text(encoding="utf-8")
    each = about.models[0]["bytes_per_image"] / 1e6
    assert f"{each:,.1f} MB an image, 7 at once</span>" in page


def test_a_report_tells_of_batches_that_were_halved(composed, tmp_path):
    about: Run = run(
        composed("model=mlp", "train.epochs=1", "data.limit=20", "attack=[fgsm]", "batch_size=16"),
        tmp_path, [], Console(quiet=True),
    )  # fmt: skip
    assert about.models[0]["batch_size_first"] == 16
    about.models[0]["batch_size"] = 4
    about.write(tmp_path)
    assert "MB an image, 4 at once (halved from 16: memory ran out)</span>" in write(tmp_path).read_text("utf-8")
