"""Looking inside: the study, run small: what is trained, what it refuses, and what its page holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from attacks.pgd import PGD
from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.inside import Inside
from eval.studies.readers import reading
from eval.studies.reading import Reading
from models.convnets import CNN
from models.pretrained import Torchvision

QUICK = (
    *("experiment=intriguing/inside", "debug=quick", "study.images=4", "study.checked=3", "study.units=3"),
    *("study.classes=3", "study.starts=1", "study.steps=4", "study.draws=1", "study.layers=2"),
)
NAMES = ("first-layer", "units-excited", "classes-excited", "maps", "attacked-maps", "randomised-layers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inside")


@pytest.fixture
def done(composed, whole) -> tuple[Run, Reading]:
    """The same small run for all tests: what is there already is not done again."""
    about = run(composed(*QUICK), whole, [], Console(quiet=True))
    return about, reading(about, read_records(whole), whole)


def test_every_section_states_claim_measure_null_and_answer(done):
    about, found = done
    assert about.status == "complete"
    assert [section.name for section in found.sections] == [*NAMES, "robust-beside-plain"]
    for section in found.sections:
        for text in (section.claim, section.measured, section.null, section.answer):
            assert text.endswith((".", ":"))
            assert "nan" not in text
        assert any(digit in section.answer for digit in "0123456789")
    assert not any("at chance" in line and "untrained" in line for line in about.warnings)


def test_names_are_used_once_and_pictures_are_pictures(done):
    _, found = done
    names = [t.name for t in found.all_tables] + [c.name for s in found.sections for c in s.curves]
    names += [p.name for s in found.sections for p in s.pictures] + [s.name for s in found.sections]
    assert len(names) == len(set(names))
    images = [image for s in found.sections for p in s.pictures for _, image in p.images]
    assert len(images) > 10
    assert all(i.ndim == 3 and i.shape[0] in (1, 3) and i.min() >= 0 and i.max() <= 1 for i in images)


def test_a_run_goes_on_where_it_was_and_does_not_depend_on_the_batch_size(done, composed, whole, tmp_path):
    kept = {path.name: path.stat().st_mtime_ns for path in (whole / "measured").glob("*.npz")}
    assert len(kept) == 16  # four probes of four networks
    again = run(composed(*QUICK, "batch_size=7"), tmp_path, [], Console(quiet=True))
    other = reading(again, read_records(tmp_path), tmp_path)
    for one, two in zip(done[1].all_tables, other.all_tables, strict=True):
        a, b = (np.array([v.ours for _, row in t.rows for v in row if v is not None]) for t in (one, two))
        np.testing.assert_allclose(a, b, atol=2e-3, err_msg=one.name)
    assert kept == {path.name: path.stat().st_mtime_ns for path in (whole / "measured").glob("*.npz")}


def test_what_an_interrupted_run_left_is_refused_in_one_line(done, whole, tmp_path):
    about, _ = done
    unfinished = dataclasses.replace(about, status="running")
    part = next((whole / "measured").glob("*.npz"))
    part.rename(tmp_path / part.name)
    with pytest.raises(InputError, match="the run has not finished, and what is there is too little"):
        reading(unfinished, read_records(whole), whole)
    (tmp_path / part.name).rename(part)


def data(train: bool = True) -> Data:
    samples = Samples.of(np.zeros((20, 1, 8, 8), np.float32), np.arange(20) % 2, "ab", "all")
    return Data("some", "", samples if train else None, samples)


def test_what_is_trained_on_what():
    trained = Inside(hardened="0.2").cohorts(data(), {"a": CNN()}, 7)
    assert [c.suffix for c in trained] == ["", "_other", "_robust", "_untrained"]
    assert trained[1].seed not in (None, 7)
    assert trained[2].adversary is not None
    assert trained[2].adversary[1].eps == 0.2
    assert trained[2].config.adversary["eps"] == "0.2"
    assert trained[3].untrained
    ready = {"b": Torchvision("squeezenet1_0")}
    assert [c.suffix for c in Inside().cohorts(data(False), ready, 7)] == ["", "_untrained"]
    with pytest.raises(InputError, match="data: must have training samples for a, got none in some"):
        Inside().cohorts(data(False), {"a": CNN()}, 7)


@pytest.mark.parametrize(("trained_on", "passes"), [(1000, 9), (100, 5), (30, 2), (3, 1)])
def test_a_large_data_set_gets_fewer_passes(trained_on, passes):
    trained = Inside(epochs=9, trained_on=trained_on).cohorts(data(), {"a": CNN()}, 7)  # 20 samples
    assert {cohort.config.epochs for cohort in trained} == {passes}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"images": 0}, "images: must be at least 1, got 0"),
        ({"layers": 1}, "layers: must be at least 2"),
        ({"trained_on": 0}, "trained_on: must be at least 1, got 0"),
        ({"unit": -2}, "unit: must be at least 0, got -2"),
        ({"side": 0.0}, r"side: must be in \(0, 1\]"),
        ({"hardened": "9"}, "eps: must be at most 1"),
    ],
)
def test_what_cannot_be_is_refused(fields, says):
    with pytest.raises(InputError, match=says):
        Inside(**fields)


def test_attacks_are_needed_and_must_keep_the_norm():
    with pytest.raises(InputError, match="attack: must name at least one in this study"):
        Inside().trials(data(), {}, 0)
    with pytest.raises(InputError, match=r"attack.pgd: supports the norm"):
        Inside(norm="l0", eps="5").trials(data(), {"pgd": PGD()}, 0)


def test_what_an_earlier_version_measured_is_refused_in_one_line(done, whole, monkeypatch):
    about, _ = done
    from eval.studies import inside_tables

    real = inside_tables.read_measured

    def without(folder, probe):
        return {name: {k: v for k, v in of.items() if k != "noises"} for name, of in real(folder, probe).items()}

    monkeypatch.setattr(inside_tables, "read_measured", without)
    with pytest.raises(InputError, match="must be measured by this version, cnn was by an earlier one"):
        reading(about, read_records(whole), whole)
