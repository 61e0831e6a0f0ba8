"""Networks that are broken on purpose: the healthy one behind a fault, and the fault is the one that was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.check import check, gradient
from models.classifier import Classifier
from models.convnets import CNN
from models.errors import ModelError
from models.fold import fold
from models.planted.disguise import Disguised, Fault
from models.planted.flat import Argmax, Detached, Jpeg, Quantised, Thermometer, WrongGradient
from models.planted.random import Noise, RandomResize
from models.planted.shifting import BatchDependent, Purifying, Rejecting, Stateful
from models.planted.steep import Clipped, KWinners, LogitScale, Shattered, SoftmaxTwice, Winners
from models.recipe import TrainConfig
from models.spec import Spec, build, trained_as
from models.store import Trained, load_or_fit

SHAPE = (1, 8, 8)
BASE: dict[str, Any] = {"widths": [4, 8], "hidden": 32}
FAULTS: list[Fault] = [
    Quantised(BASE), Thermometer(BASE), Jpeg(BASE), Argmax(BASE), Detached(BASE), WrongGradient(BASE), LogitScale(BASE),
    SoftmaxTwice(BASE), Clipped(BASE), Shattered(BASE), Noise(BASE, sigma=0.1), RandomResize(BASE), Rejecting(BASE),
    Purifying(BASE), BatchDependent(BASE), Stateful(BASE, sigma=0.1),
]  # fmt: skip
EACH = pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture
def enter(store: Path, blobs: Any) -> Any:
    """A spec as a run treats it: built, trained or found, frozen."""

    def go(spec: Spec, name: str) -> tuple[Classifier, Trained]:
        network = build(spec, name, SHAPE, 3, seed=0)[name]
        own, base = trained_as(name, spec)
        trained = load_or_fit(
            network,
            base,
            TrainConfig(epochs=30, batch_size=16),
            blobs,
            root=store,
            name=own,
            data="blobs",
            input_shape=SHAPE,
            seed=0,
        )
        return network.classifier(name, SHAPE), trained

    return go


@pytest.fixture
def healthy(enter: Any) -> Classifier:
    classifier, _ = enter(CNN(**BASE), "cnn")
    return classifier  # type: ignore[no-any-return]


@pytest.fixture
def planted(enter: Any, healthy: Classifier) -> Any:
    return lambda fault: enter(fault, "m")[0]


def by_hand(network: Any, x: Tensor, direction: Tensor, step: float = 1e-3) -> Tensor:
    """Slopes (B, K) of the logits along a direction, by central differences."""
    with torch.no_grad():
        return (network(x + step * direction) - network(x - step * direction)) / (2 * step)


def by_autograd(network: Any, x: Tensor, direction: Tensor) -> Tensor:
    """The same (B, K) as autograd has it."""
    leaf = x.clone().requires_grad_()
    z = network(leaf)
    columns = [torch.autograd.grad(z[:, k].sum(), leaf, retain_graph=True)[0] for k in range(z.shape[1])]
    return torch.stack([(g * direction).flatten(1).sum(1) for g in columns], dim=1)


@pytest.fixture
def direction(blobs: Any) -> Tensor:
    return torch.randn(blobs.images.shape, generator=torch.Generator().manual_seed(3))


@EACH
def test_all_share_the_checkpoint_of_the_healthy_network(fault: Fault, enter: Any, healthy: Classifier) -> None:
    _, own = enter(CNN(**BASE), "cnn")
    _, trained = enter(fault, "m")
    assert trained.loaded
    assert trained.key == own.key


def test_whoever_is_trained_first_trains_the_same_weights() -> None:
    healthy = build(CNN(**BASE), "cnn", SHAPE, 3, seed=5)["cnn"].module.state_dict()
    fresh = build(Noise(BASE), "m", SHAPE, 3, seed=5)["m"].module.state_dict()
    assert all(torch.equal(fresh[k], v) for k, v in healthy.items())


@EACH
def test_clean_images_are_predicted_as_before(fault: Fault, planted: Any, healthy: Classifier, blobs: Any) -> None:
    torch.manual_seed(0)
    same = planted(fault)(blobs.images).argmax(1) == healthy(blobs.images).argmax(1)
    assert same.float().mean() >= 0.9


@EACH
def test_it_can_be_attacked_at_all(fault: Fault, planted: Any, blobs: Any) -> None:
    x = blobs.images[:8].clone().requires_grad_()
    z = planted(fault)(x)
    (g,) = torch.autograd.grad(z, x, torch.ones_like(z))
    assert g.shape == x.shape


@EACH
def test_the_disguise_says_all_of_itself(fault: Fault) -> None:
    network = fault.build("m", SHAPE, 3)["m"]
    assert network.disguise is not None
    assert repr(network.disguise) == repr(fault)
    assert fault.says in network.description


@pytest.mark.parametrize("fault", [Thermometer(BASE), Jpeg(BASE), Argmax(BASE), Purifying(BASE)], ids=str)
def test_no_gradient_reaches_the_pixels(fault: Fault, planted: Any, blobs: Any) -> None:
    classifier = planted(fault)
    assert gradient(classifier, blobs.images) is None
    warning, *_ = check(classifier, blobs.images)
    assert "no gradient reaches the pixels" in warning


def test_quantised_has_gradients_of_zero(planted: Any, blobs: Any) -> None:
    found = gradient(planted(Quantised(BASE)), blobs.images)
    assert found is not None
    assert not found.any()


def test_quantised_and_thermometer_tell_no_change_within_a_level(planted: Any) -> None:
    x = (torch.arange(64).view(1, *SHAPE) % 15 + 0.75) / 15  # between levels of the one, and of the other
    for fault in (Quantised(BASE, levels=16), Thermometer(BASE, levels=15)):
        assert torch.equal(planted(fault)(x), planted(fault)(x + 1e-3))
        assert not torch.equal(planted(fault)(x), planted(fault)(x + 1 / 15))


def test_thermometer_codes_are_sums_of_steps(planted: Any, healthy: Classifier, blobs: Any) -> None:
    steps = torch.stack([(blobs.images > j / 5).float() for j in range(5)]).mean(0)
    torch.testing.assert_close(planted(Thermometer(BASE, levels=5))(blobs.images), healthy(steps))


def test_jpeg_is_that_of_a_file(planted: Any, healthy: Classifier, blobs: Any, tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image

    to_pil_image((blobs.images[0] * 255).round().byte()).save(tmp_path / "x.jpg", quality=50)
    back = pil_to_tensor(Image.open(tmp_path / "x.jpg"))[None] / 255
    assert float((back - blobs.images[:1]).abs().max()) > 0.02
    torch.testing.assert_close(planted(Jpeg(BASE, quality=50))(blobs.images[:1]), healthy(back))


@pytest.mark.parametrize("fault", [Detached(BASE), WrongGradient(BASE)], ids=str)
def test_finite_differences_contradict_the_gradient(
    fault: Fault, planted: Any, healthy: Classifier, blobs: Any, direction: Tensor
) -> None:
    network, x = planted(fault), blobs.images
    torch.testing.assert_close(network(x), healthy(x), rtol=1e-4, atol=1e-4)
    slope = by_hand(network, x, direction)
    assert (by_autograd(network, x, direction) - slope).norm() > 0.5 * slope.norm()
    assert (by_autograd(healthy, x, direction) - slope).norm() < 0.1 * slope.norm()
    found = gradient(network, x)
    assert found is not None
    assert found.flatten(1).any(1).all()


def test_only_brightness_leaks_from_what_is_detached(planted: Any, blobs: Any) -> None:
    found = gradient(planted(Detached(BASE)), blobs.images)
    assert found is not None
    assert (found == found[0, 0, 0, 0]).all()


def test_a_wave_shatters_slopes_and_leaves_differences_over_longer_ways(
    planted: Any, healthy: Classifier, blobs: Any, direction: Tensor
) -> None:
    network, x = planted(Shattered(BASE, amplitude=1e-4, slope=10)), blobs.images.double()
    network, sound = network.double(), healthy.double()
    slope = by_hand(sound, x, direction.double(), step=0.01)
    far = by_hand(network, x, direction.double(), step=0.01)
    assert (far - slope).norm() < 0.1 * slope.norm()
    assert (by_autograd(network, x, direction.double()) - slope).norm() > 2 * slope.norm()


def test_large_logits_leave_the_cross_entropy_without_gradient(planted: Any, healthy: Classifier, blobs: Any) -> None:
    network, x = planted(LogitScale(BASE, factor=1e4)), blobs.images
    labels = network(x).argmax(1)
    torch.testing.assert_close(network(x), healthy(x) * 1e4)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(nn.functional.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
    z = network(leaf)
    top = z.topk(2).values
    (margin,) = torch.autograd.grad((top[:, 0] - top[:, 1]).sum(), leaf)
    assert not g.flatten(1).any(1).all()
    assert margin.flatten(1).any(1).all()


def test_probabilities_are_told_as_such(planted: Any, healthy: Classifier, blobs: Any) -> None:
    network = planted(SoftmaxTwice(BASE, temperature=0.5))
    torch.testing.assert_close(network(blobs.images), (healthy(blobs.images) * 2).softmax(1))
    assert any("look like probabilities" in line for line in check(network, blobs.images))


def test_beyond_the_plateau_all_is_flat(planted: Any, healthy: Classifier, blobs: Any) -> None:
    z = healthy(blobs.images)
    top = z.topk(2).values
    plateau = float((top[:, 0] - top[:, 1]).median())
    network = planted(Clipped(BASE, plateau=plateau))
    clipped = network(blobs.images)
    torch.testing.assert_close(clipped.amax(1) - clipped.amin(1), (top[:, 0] - z.amin(1)).clamp(max=plateau))
    found = gradient(network, blobs.images)
    assert found is not None
    flat = top[:, 0] - top[:, 1] > plateau
    assert not found[flat].any()
    assert found[~flat].flatten(1).any(1).any()


def test_decisions_are_one_hot(planted: Any, healthy: Classifier, blobs: Any) -> None:
    z = planted(Argmax(BASE))(blobs.images)
    assert torch.equal(z.argmax(1), healthy(blobs.images).argmax(1))
    assert torch.equal(z.sort(1).values, torch.tensor([0.0, 0.0, 1.0]).expand_as(z))


@pytest.mark.parametrize("fault", [Noise(BASE), RandomResize(BASE)], ids=str)
def test_lots_are_drawn_from_the_global_generator(fault: Fault, planted: Any, blobs: Any) -> None:
    network = planted(fault)
    torch.manual_seed(0)
    first, others = network(blobs.images), [network(blobs.images) for _ in range(8)]
    assert any(not torch.equal(first, other) for other in others)
    torch.manual_seed(0)
    assert torch.equal(network(blobs.images), first)


def test_members_take_turns_whatever_the_seed(planted: Any, blobs: Any) -> None:
    network, answers = planted(Stateful(BASE, members=3)), []
    for _ in range(6):
        torch.manual_seed(0)
        answers.append(network(blobs.images))
    assert not torch.equal(answers[0], answers[1])
    assert all(torch.equal(a, b) for a, b in zip(answers[:3], answers[3:], strict=True))


def test_the_batch_decides_too(planted: Any, healthy: Classifier, blobs: Any) -> None:
    network, z = planted(BatchDependent(BASE)), healthy(blobs.images)
    torch.testing.assert_close(network(blobs.images), z - z.mean(0))
    assert not network(blobs.images[:1]).any()
    assert any("rest of its batch" in line for line in check(network, blobs.images))


def test_purification_asks_autograd_inside_forward(
    planted: Any, healthy: Classifier, blobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or grad(*a, **k))
    with torch.no_grad():
        surer = planted(Purifying(BASE, steps=3))(blobs.images).softmax(1).amax(1)
    assert len(calls) == 3
    assert (surer - healthy(blobs.images).softmax(1).amax(1)).mean() > 0


def test_what_is_unsure_is_rejected_at_a_constant_score(planted: Any, healthy: Classifier, blobs: Any) -> None:
    sure = healthy(blobs.images).softmax(1).amax(1)
    least = float(sure.median())
    z = planted(Rejecting(BASE, least=least, answer=1))(blobs.images)
    assert torch.equal(z[sure >= least], healthy(blobs.images)[sure >= least])
    assert torch.equal(z[sure < least], torch.tensor([0.0, 10.0, 0.0]).expand(int((sure < least).sum()), 3))


@EACH
def test_the_stand_in_has_gradients_worth_following(
    fault: Fault, planted: Any, healthy: Classifier, blobs: Any
) -> None:
    guide, x = planted(fault).stand_in(), blobs.images
    if guide is None:
        assert isinstance(fault, Noise | RandomResize | Stateful)  # for which there is the expectation
        return
    x = x[(x - 0.5).abs().flatten(1).amax(1) < 0.5] if isinstance(fault, Purifying) else x
    leaf = x.clone().requires_grad_()
    z = guide(leaf)
    (g,) = torch.autograd.grad(z.gather(1, z.argmax(1, keepdim=True)).sum(), leaf)
    leaf = x.clone().requires_grad_()
    z = healthy(leaf)
    (own,) = torch.autograd.grad(z.gather(1, z.argmax(1, keepdim=True)).sum(), leaf)
    alike = torch.cosine_similarity(g.flatten(1), own.flatten(1))
    assert alike.mean() > 0.7


def test_winners_are_the_largest_of_each_image() -> None:
    x = torch.tensor([[3.0, -1.0, 2.0, 5.0, 0.0], [-4.0, -1.0, -2.0, -3.0, -5.0]])
    expected = torch.tensor([[3.0, 0, 0, 5.0, 0], [0, -1.0, -2.0, 0, 0]])
    assert torch.equal(Winners(0.4)(x), expected)
    assert torch.equal(Winners(0.3)(x.view(2, 5, 1, 1)), expected.view(2, 5, 1, 1))  # rounded up


def test_k_winners_have_weights_of_their_own(enter: Any, healthy: Classifier, blobs: Any) -> None:
    spec = KWinners(BASE, share=0.2)
    assert trained_as("m", spec) == ("m", spec)
    classifier, _ = enter(spec, "k")
    assert sum(isinstance(m, Winners) for m in classifier.modules()) == 3
    assert (classifier(blobs.images).argmax(1) == torch.from_numpy(blobs.labels)).float().mean() > 0.8


def normed() -> Classifier:
    """A network with a batch norm that can be folded."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    net(torch.rand(64, *SHAPE))
    return Classifier(net, name="m", input_shape=SHAPE, num_classes=3)


@EACH
def test_folding_takes_no_fault_away(fault: Fault, blobs: Any) -> None:
    if isinstance(fault, WrongGradient):
        fault = replace(fault, base={})
    network = Classifier(fault(normed()), name="m", input_shape=SHAPE, num_classes=3)
    folded = fold(network, blobs.images)
    assert any(isinstance(m, Disguised) for m in folded.modules())
    assert (gradient(folded, blobs.images) is None) == (gradient(network, blobs.images) is None)
    if isinstance(fault, Noise | RandomResize | Stateful):
        assert any(not torch.equal(folded(blobs.images), folded(blobs.images)) for _ in range(8))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Quantised(levels=1), "levels"), (lambda: Thermometer(levels=0), "levels"),
        (lambda: Jpeg(quality=0), "quality"), (lambda: LogitScale(factor=0), "factor"),
        (lambda: SoftmaxTwice(temperature=0), "temperature"), (lambda: Clipped(plateau=-1), "plateau"),
        (lambda: Shattered(slope=0), "slope"), (lambda: KWinners(share=0), "share"), (lambda: Noise(sigma=0), "sigma"),
        (lambda: RandomResize(shrink=1), "shrink"), (lambda: Rejecting(least=1), "least"),
        (lambda: Purifying(steps=0), "steps"), (lambda: Stateful(members=1), "members"),
        (lambda: Noise({"depth": 3}), "base"), (lambda: KWinners({"depth": 3}), "base"),
        (lambda: Jpeg().build("m", (2, 8, 8), 3), "channels"),
        (lambda: Rejecting(answer=3).build("m", (1, 8, 8), 3), "answer"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        make()
