"""Times beside the floor: what is timed, that what it leaves standing is judged, and what the page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from eval.device import drawing
from eval.errors import InputError
from eval.floor import floor, in_turns
from eval.libraries import LIBRARIES, Asked, Library
from eval.records import Run, read_measured, read_records
from eval.run import run
from eval.studies.benchmark import Benchmark
from eval.studies.benchmark_tables import read
from eval.timing import DEFAULT, TIMING
from models.classifier import Classifier
from models.convnets import CNN
from models.spec import build
from reports.build import write

SMALL = (
    "experiment=benchmark", "model=cnn", "train.epochs=1", "study.steps=5", "study.rounds=2", "study.images=12",
    "study.libraries=[foolbox]", "attack=[fgsm,lbfgs/quick]", "attack.lbfgs_quick.evaluations=20",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def net() -> Classifier:
    return build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


def test_the_floor_is_so_many_forwards_and_gradients():
    seen: list[bool] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        x.register_hook(lambda _: seen.append(True))
        return x.flatten(1)[:, :2] * 2

    floor(network, torch.rand(3, 1, 2, 2), 7)
    assert len(seen) == 7


def test_all_take_turns_and_each_begins_once():
    order: list[str] = []
    seconds = in_turns({n: (lambda n=n: order.append(n)) for n in "abc"}, 3, CPU)
    assert order == list("abc" + "bca" + "cab")
    assert {name: s.shape for name, s in seconds.items()} == dict.fromkeys("abc", (3,))
    assert all((s > 0).all() for s in seconds.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture
def done(composed, place) -> tuple[Run, Path]:
    folder = place / "run"
    folder.mkdir(exist_ok=True)
    return run(composed(*SMALL), folder, [], Console(quiet=True)), folder  # the second time it is only read


def test_each_contender_is_timed_and_judged(done):
    _, folder = done
    found = read_measured(folder, TIMING)["cnn"]
    labels = found["label"].tolist()
    assert labels[0] == "floor: 5 forwards and gradients"
    assert {"every step", "samples leave", "fgsm", "lbfgs_quick", "Foolbox, PGD"} <= set(labels)
    assert found["seconds"].shape == (len(labels), 2)
    assert found["held"].shape == (len(labels), 12)
    costs = dict(zip(labels, zip(found["forwards"], found["backwards"], strict=True), strict=True))
    assert costs["every step"] == (6, 5)
    assert costs["fgsm"][1] == 1
    assert costs["samples leave"][1] <= 5
    assert np.isnan(costs["Foolbox, PGD"]).all()
    held = dict(zip(labels, found["held"], strict=True))
    assert (held["every step"] >= held["lbfgs_quick"]).all()  # without a budget all fall
    assert held[labels[0]].sum() >= held["fgsm"].sum() >= held["every step"].sum()


def test_a_perceptron_is_timed_in_one_piece_too(composed, tmp_path):
    run(composed(*SMALL[:-2], "model=mlp", "study.rounds=1"), tmp_path, [], Console(quiet=True))
    labels = read_measured(tmp_path, TIMING)["mlp"]["label"].tolist()
    assert {"every step", "every step, in one piece", "samples leave, in one piece"} <= set(labels)


def test_the_page_says_how_far_from_the_floor_and_beside_whom(done, tmp_path):
    about, folder = done
    (section,) = read(about, read_records(folder), folder).sections
    rows = dict(section.tables[0].rows)
    seconds = read_measured(folder, TIMING)["cnn"]["seconds"]
    assert rows["every step"][0].ours == pytest.approx(np.median(seconds[1] / seconds[0]))
    assert rows["floor: 5 forwards and gradients"][0].ours == 1
    assert "(Foolbox, PGD) takes" in section.answer
    assert "every step our loop takes" in section.answer
    page = write(folder, output=tmp_path).read_text(encoding="utf-8")
    assert section.answer in page
    ratio = seconds[1] / seconds[0]
    assert f"<small>{ratio.min():.3g} to {ratio.max():.3g}</small>" in page
    assert "no samples" not in page


@pytest.mark.parametrize(
    ("more", "gone"),
    [
        (["model=cnn", "channels_last=false"], "laid out"),
        (["model=cnn", "precision=float32"], "16 bits"),
        (["model=mlp", "fuse=false"], "in one piece"),
    ],
)
def test_what_a_run_turns_off_is_not_measured(composed, tmp_path, more, gone):
    small = [*SMALL[:-2], "study.rounds=1", "study.libraries=[]"]
    labels = {}
    for name, overrides in (("all", more[:1]), ("some", more)):
        folder = tmp_path / name
        folder.mkdir()
        run(composed(*small, *overrides), folder, [], Console(quiet=True))
        (found,) = read_measured(folder, TIMING).values()
        labels[name] = found["label"].tolist()
        assert found["kind"].tolist().count(DEFAULT) == 1
    assert any(gone in label for label in labels["all"])
    assert not any(gone in label for label in labels["some"])


@pytest.mark.parametrize(("precision", "default"), [("auto", "samples leave, in one piece"), ("bfloat16", "16 bits")])
def test_the_row_is_marked_that_a_run_does(composed, tmp_path, precision, default):
    small = [*SMALL[:-2], "model=mlp", f"precision={precision}", "study.rounds=1", "study.libraries=[]"]
    about = run(composed(*small), tmp_path, [], Console(quiet=True))
    (found,) = read_measured(tmp_path, TIMING).values()
    (marked,) = found["label"][found["kind"] == DEFAULT].tolist()  # 16 bits are for larger networks
    assert marked.endswith(default)
    (section,) = read(about, read_records(tmp_path), tmp_path).sections
    assert f"as a run does it ({marked})" in section.answer
    assert f"{marked} (as a run does it)" in dict(section.tables[0].rows)


def test_a_library_that_is_not_there_is_told(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    small = [*SMALL[:-2], "model=mlp", "study.rounds=1", "study.libraries=[foolbox,art]"]
    about = run(composed(*small), tmp_path, [], Console(quiet=True))
    (section,) = read(about, read_records(tmp_path), tmp_path).sections
    assert section.measured.endswith("Not installed, and so not timed: Foolbox, PGD; ART, PGD.")


def test_a_run_in_which_nothing_is_marked_claims_nothing_of_what_a_run_does(done, monkeypatch):
    about, folder = done
    (arrays,) = read_measured(folder, TIMING).values()
    kind = np.where(arrays["kind"] == DEFAULT, "lever", arrays["kind"])
    older = {name: array for name, array in arrays.items() if name != "missing"} | {"kind": kind}
    monkeypatch.setattr("eval.studies.benchmark_tables.read_measured", lambda *_: {"cnn": older})
    (section,) = read(about, read_records(folder), folder).sections
    assert "with all that makes it faster (samples leave" in section.answer
    assert "as a run does it" not in section.answer
    assert not any("as a run does it" in label for label, _ in section.tables[0].rows)


def test_a_library_draws_from_numpy_by_the_seed_of_pytorch_and_leaves_it_as_it_was(net):
    drawn = []

    def draw(network, x, labels, asked):
        drawn.append(np.random.rand(3).tolist())
        return x

    library = Library("drawing", "numpy", "numpy", draw)
    x = torch.rand(2, 1, 8, 8)
    before = np.random.get_state()[1].tolist()
    for seed in (0, 0, 1):
        with drawing(CPU, seed, "library"):
            library(net, x, torch.zeros(2, dtype=torch.int64), Asked(0.1, 0.02, 1))
    assert drawn[0] == drawn[1] != drawn[2]
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("name", [name for name in LIBRARIES if LIBRARIES[name].version])
def test_what_a_library_draws_depends_on_nothing_that_ran_before(net, name):
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for drawn in (1, 5):
        torch.rand(drawn)
        np.random.rand(drawn)
        with drawing(CPU, 0, name):
            found.append(LIBRARIES[name](net, x, net(x).argmax(1), Asked(0.1, 0.02, 1)))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", LIBRARIES)
def test_other_libraries_keep_to_the_budget_and_leave_the_network_frozen(net, name):
    if not LIBRARIES[name].version:
        pytest.skip(f"{LIBRARIES[name].package} is not installed")
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = net(x).argmax(1)
    found = LIBRARIES[name](net, x, labels, Asked(0.1, 0.02, 5))
    assert float((found - x).abs().max()) <= 0.1 + 1e-5
    assert float(found.min()) >= 0 and float(found.max()) <= 1  # noqa: PT018
    assert not torch.equal(found, x)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def test_a_library_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not any(library.version for library in LIBRARIES.values())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"norm": "l0", "eps": "3"}, "norm: must be one of l1, l2, linf, which PGD has, got l0"),
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"images": 1}, "images: must be at least 2, got 1"),
        ({"precision": "bf16"}, "precision: must be one of auto, float32, bfloat16, got bf16"),
        ({"libraries": ["cleverhans"]}, "libraries: must be of foolbox, torchattacks, art, autoattack, got cleverhans"),
    ],
)
def test_bad_input_is_one_line(fields, says):
    with pytest.raises(InputError) as caught:
        Benchmark(**fields)
    assert str(caught.value) == says
