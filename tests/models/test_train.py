from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.augment import crop_flip
from models.convnets import ResNet18
from models.errors import ModelError
from models.history import History, Progress
from models.paper import MLP, Softmax
from models.recipe import SCHEDULES
from models.source import split
from models.spec import Network, Spec, build
from models.train import Source, TrainConfig, fit
from models.weights import fingerprint

RECIPE = TrainConfig(epochs=4, batch_size=16, lr=0.02, val_fraction=0.2)
DROPOUT = MLP(widths=[16], activation="relu", dropout=0.3, decay=[1e-5])


def new(spec: Spec, classes: int = 3) -> Network:
    return build(spec, "m", (1, 8, 8), classes, seed=0)["m"]


def fitted(source: Source, config: TrainConfig = RECIPE, spec: Spec = DROPOUT, **options: Any) -> tuple[str, History]:
    network = new(spec)
    history = fit(network, config, source, **{"seed": 0, **options})
    return fingerprint(network.module), history


def test_it_learns(blobs: Source) -> None:
    _, history = fitted(blobs, replace(RECIPE, epochs=10))
    assert history.epochs[-1].loss < 0.3 * history.epochs[0].loss
    assert (history.epochs[history.best].val_accuracy or 0) > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(blobs: Source) -> None:
    assert fitted(blobs)[0] == fitted(blobs)[0] != fitted(blobs, seed=1)[0]


def test_the_global_random_state_neither_matters_nor_changes(blobs: Source) -> None:
    first, _ = fitted(blobs)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    second, _ = fitted(blobs)
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("spec", "optimizer", "after"),
    [(DROPOUT, "adam", 1), (DROPOUT, "sgd", 1), (DROPOUT, "adam", 2), (ResNet18(width=2), "adam", 2)],
)
def test_an_interrupted_fit_ends_with_the_same_weights(
    blobs: Source, tmp_path: Path, spec: Spec, optimizer: str, after: int
) -> None:
    recipe = replace(RECIPE, augment="crop_flip", optimizer=optimizer)

    def stop(report: Progress) -> None:
        if report.epoch == after:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fitted(blobs, recipe, spec, store=state, progress=stop)
    resumed, again = fitted(blobs, recipe, spec, store=state)
    undisturbed, history = fitted(blobs, recipe, spec)
    assert resumed == undisturbed
    assert [e.loss for e in again.epochs] == [e.loss for e in history.epochs]


def test_the_state_of_another_fit_is_refused(blobs: Source, tmp_path: Path) -> None:
    fitted(blobs, store=tmp_path / "state")
    with pytest.raises(ModelError, match="this very training"):
        fitted(blobs, replace(RECIPE, lr=0.1), store=tmp_path / "state")


def test_the_best_weights_are_kept(blobs: Source) -> None:
    network = new(Softmax())
    weight = network.module.get_parameter("1.weight")
    calls = 0

    def spoil_later_epochs() -> Tensor:
        nonlocal calls
        calls += 1
        return -1e3 * weight[0].sum() if calls > 20 else 0 * weight.sum()  # in the end all is class 0

    network.penalty = spoil_later_epochs
    history = fit(network, replace(RECIPE, lr=0.05, schedule="constant", epochs=8), blobs, seed=0)
    _, held = split(blobs.labels, RECIPE.val_fraction, 0)
    accuracy = (network.module(blobs.batch(held)).argmax(1).numpy() == blobs.labels[held]).mean()
    results = [e.val_accuracy or 0 for e in history.epochs]
    assert results[-1] < 0.5 < max(results)
    assert accuracy == pytest.approx(max(results)) == results[history.best]


def test_patience_stops_after_epochs_without_improvement(blobs: Source) -> None:
    _, history = fitted(blobs, replace(RECIPE, lr=1e-9, epochs=50, patience=3, schedule="constant"), Softmax())
    assert not history.stopped or len(history.epochs) == history.best + 4
    worse = replace(RECIPE, lr=50.0, epochs=60, patience=3, schedule="constant")
    _, history = fitted(blobs, worse, Softmax())
    assert history.stopped
    assert len(history.epochs) == history.best + 4


def test_without_validation_the_last_epoch_is_kept(blobs: Source) -> None:
    _, history = fitted(blobs, replace(RECIPE, val_fraction=0.0))
    assert history.best == 3
    assert (history.samples, history.held_out, history.epochs[0].val_accuracy) == (90, 0, None)


def test_a_share_of_each_class_is_held_out() -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 1])
    train, held = split(labels, 0.2, seed=0)
    assert np.bincount(labels[held], minlength=4).tolist() == [2, 4, 6, 0]
    assert sorted([*train, *held]) == list(range(61))


def test_the_penalty_is_part_of_the_loss(blobs: Source) -> None:
    weak, strong = new(Softmax(decay=0.0)), new(Softmax(decay=1.0))
    for network in (weak, strong):
        fit(network, RECIPE, blobs, seed=0)
    size = [n.module.get_parameter("1.weight").norm().item() for n in (weak, strong)]
    assert size[1] < 0.5 * size[0]


def test_sgd_takes_the_steps_of_a_plain_reference(blobs: Source) -> None:
    config = TrainConfig(
        epochs=2, batch_size=1000, lr=0.3, optimizer="sgd", momentum=0.0, schedule="cosine", val_fraction=0.0
    )
    network, twin = new(Softmax(decay=0.1)), new(Softmax(decay=0.1))
    fit(network, config, blobs, seed=0)
    w, b = (p.detach().double() for p in twin.module.parameters())
    x = blobs.batch(np.arange(90)).flatten(1).double()
    for lr in (0.3, 0.15):
        p = torch.softmax(x @ w.T + b, 1) - nn.functional.one_hot(torch.from_numpy(blobs.labels))
        w, b = w - lr * (p.T @ x / 90 + 0.1 * w), b - lr * p.mean(0)
    assert torch.allclose(network.module.get_parameter("1.weight").double(), w, atol=1e-6)
    assert torch.allclose(network.module.get_parameter("1.bias").double(), b, atol=1e-6)


def test_perturbed_images_are_trained_on_and_made_in_evaluation_mode(blobs: Source) -> None:
    calls: list[tuple[int, bool, bool]] = []

    def brighter(module: nn.Module, x: Tensor, y: Tensor, step: int) -> Tensor:
        calls.append(
            (step, any(m.training for m in module.modules()), any(p.requires_grad for p in module.parameters()))
        )
        assert len(x) == len(y)
        return (x + 0.3).clamp(0, 1)

    config = replace(RECIPE, method="adversarial", epochs=2)
    weights, history = fitted(blobs, config, ResNet18(width=2), perturb=brighter)
    assert weights != fitted(blobs, replace(RECIPE, epochs=2), ResNet18(width=2))[0]
    assert not any(training or grad for _, training, grad in calls)
    steps = [step for step, _, _ in calls]
    batches = -(-history.samples // 16)
    assert steps[:batches] == list(range(batches))
    assert set(steps[batches : -(-history.held_out // 16) + batches]).isdisjoint(range(2 * batches))


def test_the_adversarial_weight_mixes_two_losses(blobs: Source) -> None:
    def blank(module: nn.Module, x: Tensor, y: Tensor, step: int) -> Tensor:
        return torch.zeros_like(x)

    def loss(weight: float) -> float:
        config = TrainConfig(
            method="adversarial", epochs=1, batch_size=1000, lr=1e-9, val_fraction=0, adversarial_weight=weight
        )
        return fitted(blobs, config, Softmax(decay=0.0), perturb=blank)[1].epochs[0].loss

    clean = fitted(blobs, TrainConfig(epochs=1, batch_size=1000, lr=1e-9, val_fraction=0), Softmax(decay=0.0))
    assert loss(0.25) == pytest.approx(0.25 * loss(1.0) + 0.75 * clean[1].epochs[0].loss, rel=1e-5)


def test_adversarial_training_needs_an_attack(blobs: Source) -> None:
    with pytest.raises(ModelError, match="needs an attack"):
        fitted(blobs, replace(RECIPE, method="adversarial"))


def test_labels_beyond_the_classes_are_refused(blobs: Source) -> None:
    with pytest.raises(ModelError, match=r"labels must be in 0\.\.1, got 0\.\.2"):
        fit(new(Softmax(), classes=2), RECIPE, blobs, seed=0)


def test_a_loss_that_is_not_finite_stops_with_a_remedy(blobs: Source) -> None:
    network = new(Softmax())
    nn.init.constant_(network.module.get_parameter("1.weight"), float("nan"))
    with pytest.raises(ModelError, match=r"lower train\.lr"):
        fit(network, RECIPE, blobs, seed=0)


def test_progress_and_scalars_are_told(blobs: Source) -> None:
    reports: list[Progress] = []
    scalars: list[tuple[str, float, int]] = []
    fitted(blobs, progress=reports.append, log=lambda *scalar: scalars.append(scalar))
    assert [r.epoch for r in reports if r.batch == r.batches] == [0, 1, 2, 3]
    assert reports[-1].val_accuracy is not None
    assert {tag for tag, _, _ in scalars} >= {"train/loss", "train/val_accuracy", "train/lr"}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_end_no_higher_than_their_peak(name: str) -> None:
    config = TrainConfig(schedule=name, lr=2.0)
    rates = [config.lr_at(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(2.0, rel=0.01)
    assert all(r > 0 for r in rates)
    if name != "constant":
        assert rates[-1] <= 0.02 + 1e-12


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"optimizer": "lion"}, "adam, sgd"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 0.0}, "> 0"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"patience": 2, "val_fraction": 0.0}, "patience"),
    ],
)
def test_wrong_recipes_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        TrainConfig(**wrong)


def test_crop_flip_gives_a_shifted_image_or_its_mirror() -> None:
    x = torch.rand(20, 2, 8, 8)
    y = crop_flip(x, torch.Generator().manual_seed(0))
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    for before, after in zip(padded, y, strict=True):
        views = [before[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
        assert any(torch.equal(after, v) or torch.equal(after, v.flip(2)) for v in views)


def test_adversarial_training_makes_a_network_robust(blobs: Source) -> None:
    def fgsm(module: nn.Module, x: Tensor, y: Tensor, step: int) -> Tensor:
        probe = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(module(probe), y), probe)
        return (x + 0.12 * gradient.sign()).clamp(0, 1)

    def robust(config: TrainConfig) -> float:
        network = new(MLP(widths=[32], activation="relu", decay=[0.0]))
        fit(network, config, blobs, seed=0, perturb=fgsm if config.method == "adversarial" else None)
        x, y = blobs.batch(np.arange(90)), torch.from_numpy(blobs.labels)
        classifier = network.classifier("m", (1, 8, 8))
        return (classifier(fgsm(classifier, x, y, 0)).argmax(1) == y).float().mean().item()

    recipe = TrainConfig(epochs=15, batch_size=16)
    assert robust(replace(recipe, method="adversarial")) > robust(recipe) + 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_on_a_gpu_and_goes_on_there(blobs: Source, tmp_path: Path) -> None:
    def stop(report: Progress) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(blobs, replace(RECIPE, epochs=10), device="cuda", store=tmp_path / "state", progress=stop)
    _, history = fitted(blobs, replace(RECIPE, epochs=10), device="cuda", store=tmp_path / "state")
    assert history.epochs[-1].loss < 0.3 * history.epochs[0].loss
