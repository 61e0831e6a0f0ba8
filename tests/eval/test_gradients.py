"""The gradient check of networks: what is right passes, what is planted is named, and the page says so."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from eval.data import Samples
from eval.errors import InputError
from eval.gradients import Gradients, Off
from eval.records import read_records
from eval.run import run
from eval.studies.gradient_tables import _layers, _losses, _rounded, blamed, wrong
from eval.studies.gradients import Gradients as Study
from eval.studies.readers import reading
from models.classifier import Classifier

FOLDER = "experiment=intriguing/gradients"
QUICK = (
    "debug=quick", "study.images=4", "study.random=2", "study.coordinates=2", "study.layer_images=1",
    "model.cnn.widths=[4,6]", "model.mlp.widths=[8]", "model.mlp.decay=[1e-5]",
)  # fmt: skip
CPU = torch.device("cpu")


def samples(n: int = 4) -> Samples:
    x = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0)).numpy()
    return Samples.of(x, np.arange(n) % 3, ["a", "b", "c"], "all")


class Wrong(nn.Module):
    """A layer of a user's, whose backward is off."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Off.apply(x)
        return out


class Block(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.conv, self.inner, self.pool = nn.Conv2d(1, 4, 3, 2, 1), inner, nn.MaxPool2d(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu_(self.inner(self.conv(x))))


def network(inner: nn.Module) -> Classifier:
    torch.manual_seed(0)
    made = nn.Sequential(Block(inner), nn.Flatten(), nn.Linear(16, 3))
    return Classifier(made, name="n", input_shape=(1, 6, 6), num_classes=3)


def failing(found: dict[str, np.ndarray]) -> int:
    return int(wrong(found["error"], found["kink"] | found["flat"]).sum())


def test_a_right_network_passes_and_the_planted_copy_is_named():
    found = Gradients()(network(nn.Identity()), samples(), 3, CPU, 0)
    assert failing(found) == 0
    assert (~found["kink"] & ~found["flat"]).mean() > 0.5
    assert blamed(found) == []
    assert blamed(found, "planted_") == [str(found["planted"])]
    assert np.nanmax(found["single"]) < 1e-3


def test_a_wrong_backward_in_a_users_layer_is_found_and_named():
    found = Gradients()(network(Wrong()), samples(), 3, CPU, 0)
    told = (~found["kink"] & ~found["flat"]).sum()
    assert failing(found) > 0.5 * told
    assert blamed(found) == ["0.inner"]


class Rounding(nn.Module):
    """Steps in place of slopes, as 8-bit inputs have: no gradient is right but 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x + ((8 * x).round() / 8 - x).detach()


def test_a_gradient_that_goes_straight_through_a_step_is_found():
    found = Gradients()(network(Rounding()), samples(), 3, CPU, 0)
    assert failing(found) > 0
    assert blamed(found) == ["0.inner"]


class Safe(nn.Module):
    """The usual trap: forward right, backward NaN, from the branch that is not taken."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() > 100, torch.sqrt(x.abs() - 100), x)


def test_a_gradient_that_is_nan_is_wrong_at_every_point_and_its_layer_named():
    found = Gradients(random=2, coordinates=2)(network(Safe()), samples(), 3, CPU, 0)
    assert failing(found) == found["error"].size == 4 * 4 * len(found["loss"])
    assert blamed(found) == ["0.inner"]
    assert np.isnan(found["single"]).all()  # there is nothing to compare it with
    assert found["layer_asked"].all()


class Overflow(nn.Module):
    """A gradient that float32 cannot hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e25 * (1e25 * (x - x.detach()))


def test_a_gradient_that_is_a_number_in_float64_alone_is_lost_in_float32():
    found = Gradients(random=1, coordinates=0, layer_images=0)(network(Overflow()), samples(), 4, CPU, 0)
    assert not np.isfinite(found["single"]).any()
    assert np.isinf(found["single"]).mean() > 0.9  # the others are 0 in both: losses that are at their end


STUDY = SimpleNamespace(config={"study": {"noise": 0.0}})


def points(error: list[float], kink: list[int] = [], flat: list[int] = []) -> dict[str, np.ndarray]:  # noqa: B006
    """A network of one loss and image, with the errors of its directions."""
    at = [np.isin(np.arange(len(error)), places).reshape(1, -1, 1) for places in (kink, flat)]
    return {
        "loss": np.array(["ce"]), "error": np.array(error).reshape(1, -1, 1), "kink": at[0], "flat": at[1],
        "planted": np.array(""),
    }  # fmt: skip


def test_derivatives_are_counted_wrong_right_or_untold():
    two = points([1e-7, 2e-6, 0.5, 1e-9, math.inf, 9e-7], kink=[2], flat=[3])
    said = _losses(STUDY, {"n": two}, ["n"])
    largest, median, bad, kinks, flat = said.tables[0].rows[0][1]
    assert said.answer == (
        "Backprop is wrong at 2 of 4 points; 2 more are kinks or lost in rounding; least can be told of ce, of n, "
        "4 of 6. At no point could it be told whether the planted backward is found."
    )
    assert (largest.ours, bad.ours, bad.n) == (math.inf, 0.5, 4)  # of 1e-7, 9e-7, 2e-6 and infinity
    assert (median.low, median.ours, median.high, median.n) == (1e-7, 9e-7, 2e-6, 4)
    assert (kinks.ours, flat.ours) == (1 / 6, 1 / 6)


def test_the_loss_and_network_that_were_checked_least_are_named():
    much, little = points([1e-7] * 4, kink=[0]), points([1e-7] * 8, flat=[0, 1, 2])
    said = _losses(STUDY, {"a": much, "b": little}, ["a", "b"]).answer
    assert "0 of 8 points; 4 more are kinks or lost in rounding; least can be told of ce, of b, 5 of 8." in said
    smooth = _losses(STUDY, {"a": points([1e-7, 1e-7])}, ["a"]).answer
    assert smooth.startswith("Backprop is wrong at 0 of 2 points, all that there are.")


def test_where_no_point_tells_anything_none_is_called_right():
    said = _losses(STUDY, {"n": points([0.0, 0.0], kink=[0], flat=[1])}, ["n"])
    assert said.answer.startswith("Whether backprop is right is not known: all 2 points are kinks or lost in rounding.")
    assert math.isnan(said.tables[0].rows[0][1][0].ours)


def layered(error: list[list[float]], kink: list[list[int]], asked: list[list[int]]) -> dict[str, np.ndarray]:
    number = len(error)
    return {
        "layer": np.array([f"l{i}" for i in range(number)]), "kind": np.array(["Linear"] * number),
        "parent": np.full(number, -1), "layer_error": np.array(error), "layer_kink": np.array(kink, bool),
        "layer_asked": np.array(asked, bool),
    }  # fmt: skip


def test_layers_are_named_only_where_they_were_asked_and_smooth():
    error = [[1e-8, math.inf], [1.0, 1e-8], [1.0, 1.0], [1e-8, 2e-6]]
    net = layered(error, [[0, 0], [1, 0], [1, 0], [0, 0]], [[1, 1], [1, 1], [1, 0], [1, 1]])
    said = _layers({"n": net}, ["n"])
    assert blamed(net) == ["l0", "l3"]  # not l1, at a kink, nor l2, whose other error is of no question
    assert said.answer.startswith("Backprop is wrong in n: l0, l3.")
    assert "4 modules of 1 networks" in said.measured
    assert "; 1 of them are at a kink" in said.measured
    cells = dict(said.tables[0].rows)
    assert [cells[f"l{i}: Linear"][1].ours for i in range(4)] == [1, 0, 0, 1]
    assert [cells[f"l{i}: Linear"][2].ours for i in range(4)] == [0, 0.5, 1, 0]


def test_modules_that_tell_nothing_are_not_called_right():
    right, dumb = ([1e-8], [0], [1]), ([1e-8], [1], [1])
    some, none = (layered(*map(list, zip(*of, strict=True))) for of in ((right, dumb), (dumb, dumb)))
    assert _layers({"n": some}, ["n"]).answer.startswith("No module of 1 has a wrong backward.")
    assert _layers({"n": none}, ["n"]).answer.startswith(
        "Whether a module has a wrong backward is not known: all 2 tell nothing."
    )


def test_gradients_that_float32_loses_are_counted():
    def section(*single: float):
        zero = np.array([[v == 1.0] for v in single])
        net = {"loss": np.array(["ce"]), "single": np.array(single)[:, None], "zero": zero}
        return _rounded({"n": net}, ["n"])

    said = section(0.1, 0.49, 0.5, 1.0, math.inf, math.nan)
    median, largest, gone = said.tables[0].rows[0][1]
    assert said.answer == (
        "Of 5 gradients 3 are off by half their length or more in float32, or no numbers there. 1 more are 0 in both "
        "or no numbers in float64, and tell nothing."
    )
    assert (median.ours, median.n, largest.ours) == (0.5, 5, math.inf)
    assert gone.ours == 1 / 6
    assert section(0.1, 0.49).answer.startswith("Of 2 gradients 0 are off")
    assert section(math.nan).answer.startswith("What float32 leaves is not known of any gradient. 1 more")


def test_neither_batches_nor_other_samples_change_what_is_found():
    one = Gradients(layer_images=0)(network(nn.Identity()), samples(), 1, CPU, 0)
    all_ = Gradients(layer_images=0)(network(nn.Identity()), samples(), 4, CPU, 0)
    some = Gradients(layer_images=0)(network(nn.Identity()), samples().select(np.array([2])), 4, CPU, 0)
    assert np.array_equal(one["kink"], all_["kink"])
    assert np.allclose(one["error"], all_["error"], atol=1e-7)
    assert np.allclose(some["error"], all_["error"][2:3], atol=1e-7)


def test_layers_are_checked_on_images_of_different_classes(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def noted(seed: int, *labels: str) -> torch.Generator:
        asked.extend(labels[1:])
        return torch.Generator().manual_seed(0)

    monkeypatch.setattr("eval.gradients._drawn", noted)
    x = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0)).numpy()
    folder = Samples.of(x, np.repeat(np.arange(3), 2), ["a", "b", "c"], "sorted")
    Gradients(random=1, coordinates=0, layer_images=3)(network(nn.Identity()), folder, 6, CPU, 0)
    kinds = {str(i): int(k) for i, k in zip(folder.ids, folder.labels, strict=True)}
    assert sorted({kinds[i] for i in asked}) == [0, 1, 2]


def test_a_module_that_takes_no_single_tensor_is_left_out():
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.head = Two(), nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)
            return self.head(self.two(flat, flat.sin()))

    torch.manual_seed(0)
    net = Classifier(Outer(), name="n", input_shape=(1, 6, 6), num_classes=3)
    assert Gradients()(net, samples(), 4, CPU, 0)["layer"].tolist() == ["head"]


def test_a_small_run_tells_three_sections(composed, tmp_path):
    about = run(composed(FOLDER, *QUICK), tmp_path, [], Console(quiet=True))
    said = reading(about, read_records(tmp_path), tmp_path)
    assert about.status == "complete"
    assert [s.name for s in said.sections] == ["losses", "layers", "rounded"]
    assert all(s.claim and s.measured and s.null and s.answer for s in said.sections)
    assert said.sections[0].answer.startswith("Backprop is wrong at 0 of ")
    assert said.sections[1].answer.startswith("No module of 28 has a wrong backward. Of the 4 planted ones 4 are named")
    for path in (tmp_path / "measured").glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match="has not finished"):
        reading(dataclasses.replace(about, status="running"), read_records(tmp_path), tmp_path)


def test_a_users_network_with_a_wrong_backward_is_found_from_the_command(command, tmp_path):
    nets = """
import torch
from torch import nn
class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0
    @staticmethod
    def backward(ctx, g):
        return g * 1.01
class Layer(nn.Module):
    def forward(self, x):
        return Bad.apply(x)
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Layer(), nn.Tanh(), nn.Linear(16, 10))
"""
    Path("nets.py").write_text(nets)
    done = command([FOLDER, "model=factory", "model.path=nets.py:build", "debug=quick", "study.images=4"])
    assert done.code == 0
    assert "Backprop is wrong in build: 2; build_untrained: 2." in done.out.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "says"),
    [({"images": 0}, "images: must be"), ({"random": 0}, "random: must be"), ({"noise": -1.0}, "noise: must be")],
)
def test_what_is_not_allowed_is_refused(options: dict[str, object], says: str):
    with pytest.raises(InputError, match=says):
        Study(**options)  # type: ignore[arg-type]
