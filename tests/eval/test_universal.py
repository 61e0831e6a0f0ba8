"""Universal perturbations, made small: what is made on what and judged on what, and what the page holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from attacks.fgsm import FGSM
from attacks.universal import UAP, Ascent
from eval.data import Data, Digits, Samples
from eval.errors import InputError
from eval.records import read_measured, read_records
from eval.run import run
from eval.studies.moosavi import read
from eval.studies.universal import Universal
from eval.studies.universal_names import DIRECTIONS, probe_of
from eval.studies.universal_numbers import FOOLED, TRANSFER, network
from eval.universal import Directions, Making, normals
from models.classifier import Classifier

QUICK = (
    "debug=quick", "model=[softmax,mlp]", "study.images=40", "study.curve=[1,9]", "study.passes=1", "study.steps=20",
    "study.draws=2", "study.directions=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Data:
    return Digits(name="digits", root="").load(0)


@pytest.fixture
def classifier(data) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        net[1].weight.data.mul_(3)
    return Classifier(net, name="net", input_shape=(1, 8, 8), num_classes=10)


def test_a_small_run_fills_its_page(composed, tmp_path):
    about = run(composed("experiment=intriguing/universal", *QUICK), tmp_path, [], Console(quiet=True))
    page = read(about, read_records(tmp_path), tmp_path)
    by = {table.name: table for table in page.all_tables}

    assert about.status == "complete"
    assert [s.name for s in page.sections] == ["one", "across", "labels", "few-images-section", "normals"]
    assert {name: len(t.rows) for name, t in by.items()} == {
        "fooled-linf": 4, "fooled-l2": 4, "across-linf": 3, "across-l2": 3, "induced": 4, "few": 4, "span": 2,
    }  # fmt: skip
    assert all(math.isfinite(v.ours) for name in by if name != "induced" for _, row in by[name].rows for v in row)
    assert all(v is None or v.paper is None for t in by.values() for _, row in t.rows for v in row)  # not theirs
    assert by["few"].columns == ("1", "9", "40")
    assert dict(by["across-linf"].rows)["softmax"][0] == dict(by["fooled-linf"].rows)["softmax: ascent"][1]
    assert all(0 < row[6].ours <= 1 + 1e-5 for n in ("linf", "l2") for _, row in by[f"fooled-{n}"].rows)
    assert all(v.low < v.high for _, row in by["span"].rows for v in row[:4])  # also where nothing is fooled
    assert all(s.claim and s.measured and s.null and s.answer for s in page.sections)
    assert all(image.min() >= 0 and image.max() <= 1 for _, image in page.sections[0].pictures[0].images)


def test_an_interrupted_run_goes_on_and_ends_the_same(composed, tmp_path):
    def go() -> list[str]:
        about = run(composed("experiment=intriguing/universal", *QUICK), tmp_path, [], Console(quiet=True))
        tables = read(about, read_records(tmp_path), tmp_path).all_tables
        return [t.frame()[lambda f: f["column"] != "seconds"].round(6).to_csv() for t in tables]

    whole = go()
    for path in sorted((tmp_path / "measured").glob("*.npz"))[::2]:
        path.unlink()
    assert go() == whole


def test_what_it_is_made_on_is_not_what_it_is_judged_on(data):
    study = Universal(images=50)
    made, judged = study._parts(data, 0)
    assert not set(made.ids) & set(judged.ids)
    assert len(made) == 50
    assert judged.fingerprint == data.test.fingerprint

    alone = Data("photos", "", None, data.test)
    made, judged = Universal()._parts(alone, 0)
    assert not set(made.ids) & set(judged.ids)
    assert (len(made), len(judged)) == (225, 225)


def test_the_budget_in_l2_is_the_papers_for_the_papers_images(data):
    photos = Samples.of(np.zeros((8, 3, 224, 224), np.uint8), range(8), list("abcdefgh"), "p")
    probes = Universal(eps="10/255").trials(Data("photos", "", None, photos), {}, 0)[0].probes
    making = probes[probe_of("ascent", "l2")]

    assert isinstance(making, Making)
    assert float(making.eps) == pytest.approx(2000 / 255, rel=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_the_probe_says_is_what_happens(classifier, data, norm):
    making = Making(Ascent(steps=30, restarts=1), norm, "0.3", (30, 4), data.train.select(np.arange(30)))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = Classifier(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), name="other", input_shape=(1, 8, 8), num_classes=10
        )
    samples = data.test.select(np.arange(50))
    found = making.beside({"other": other})(classifier, samples, 16, torch.device("cpu"), 0)
    x = samples.batch(np.arange(50))
    v = torch.from_numpy(found["v"])
    size = v.abs().amax() if norm == "linf" else v.flatten(1).norm(dim=1).amax()

    assert float(size) <= 0.3 * (1 + 1e-5)
    for i in range(2):
        assert found["own"][i].tolist() == classifier((x + v[i]).clamp(0, 1)).argmax(1).tolist()
    assert found["free"].tolist() == classifier(x + v[0]).argmax(1).tolist()
    assert found["other"][0].tolist() == other((x + v[0]).clamp(0, 1)).argmax(1).tolist()
    assert found["other_clean"][0].tolist() == other(x).argmax(1).tolist()
    again = making(classifier, samples, 50, torch.device("cpu"), 0)
    assert np.array_equal(again["v"], found["v"])
    assert np.array_equal(again["own"], found["own"])
    assert again["other"].shape == (0, 50)


def test_two_networks_of_which_neither_sees_the_others_name_stay_apart(data):
    one, two = (Making(UAP(), "linf", "0.1", (n,), data.train.select(np.arange(n))) for n in (3, 4))
    assert repr(one) != repr(two)
    assert repr(one.beside({})) == repr(one)


def test_the_normals_of_a_linear_network_of_two_classes_are_one_direction(data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    binary = Classifier(net, name="two", input_shape=(1, 8, 8), num_classes=2)
    unit = normals(binary, data.test.batch(np.arange(20)), 7)
    w = (net[1].weight[0] - net[1].weight[1]).detach()

    assert (unit @ w).abs() == pytest.approx(w.norm().expand(20), rel=1e-4)
    assert torch.linalg.svdvals(unit)[1:].abs().max() < 1e-3


def test_random_directions_are_of_the_budget_and_differ(classifier, data):
    found = Directions("0.2", "0.8", 3, 4, 100, data.train.select(np.arange(40)))(
        classifier, data.test.select(np.arange(30)), 64, torch.device("cpu"), 0
    )
    assert int(found["dimensions"]) == 5  # an eighth of 40
    assert found["singular"] == pytest.approx(sorted(found["singular"], reverse=True))
    assert (found["singular"] ** 2).sum() == pytest.approx(len(found["singular"]), rel=1e-4)
    assert all(found[kind].shape == (3, 30) for kind in ("linf", "l2"))
    assert all(found[kind].shape == (4, 30) for kind in ("whole", "span", "components"))


def test_directions_of_subspaces_are_judged_on_fewer_images_of_all_classes(classifier, data, monkeypatch):
    monkeypatch.setattr("eval.universal._MANY", 20)
    found = Directions("0.2", "0.8", 2, 3, 100, data.train.select(np.arange(40)))(
        classifier, data.test, 64, torch.device("cpu"), 0
    )
    few, among = data.test.select(found["among"]), found["among"]
    assert np.bincount(few.labels).tolist() == [2] * 10
    assert found["linf"].shape == (2, 450)
    assert all(found[kind].shape == (3, 20) for kind in ("whole", "span", "components"))
    with torch.no_grad():
        own = classifier(few.batch(np.arange(20))).argmax(1).numpy()
    assert found["clean"][among].tolist() == own.tolist()
    assert (found["span"] != own).any()


def test_the_papers_numbers_are_about_its_own_networks():
    assert network("torchvision_vgg19") == "vgg19"
    assert network("torchvision_vgg16_bn") == network("cnn") == network("resnet152") == ""
    assert FOOLED["linf", "resnet152"] == (85.4, 84.0)
    assert TRANSFER["vgg16", "vgg19"] == 73.1
    assert all(TRANSFER[n, n] == FOOLED["linf", n][1] for n in ("vgg16", "vgg19", "googlenet", "resnet152"))


def test_what_it_cannot_do_is_said(data):
    with pytest.raises(InputError, match="norm: must be linf"):
        Universal(norm="l2")
    with pytest.raises(InputError, match="images: must be at least 2"):
        Universal(images=1)
    with pytest.raises(InputError, match="curve: must be numbers"):
        Universal(curve=[0])
    with pytest.raises(InputError, match="attack: must be none"):
        Universal().trials(data, {"fgsm": FGSM()}, 0)
    few = Data("few", "", None, data.test.select(np.arange(3)))
    with pytest.raises(InputError, match="must have at least 4 images"):
        Universal().trials(few, {}, 0)


def test_one_network_alone_has_none_to_be_shown_to(composed, tmp_path):
    overrides = ("experiment=intriguing/universal", *QUICK, "model=[softmax]")
    about = run(composed(*overrides), tmp_path, [], Console(quiet=True))

    assert set(read_measured(tmp_path, DIRECTIONS)) == {"softmax"}
    assert read(about, read_records(tmp_path), tmp_path).sections[1].answer == "There is one network alone."
