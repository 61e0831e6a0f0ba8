"""Edge fingerprints, made small: what is trained and tried, and what the page holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rich.console import Console

from attacks.pgd import PGD
from eval.data import Data, Digits, Samples
from eval.errors import InputError
from eval.records import read_records
from eval.run import run
from eval.studies.edge_tables import read
from eval.studies.edges import Edges
from models.fingerprint import Fingerprint
from models.paper import Softmax

QUICK = ("debug=quick", "debug.epochs=2", "study.draws=2", "model=[fingerprint,softmax]")
MODELS = {"fingerprint": Fingerprint(), "softmax": Softmax()}


@pytest.fixture(scope="module")
def data() -> Data:
    return Digits(name="digits", root="").load(0)


def test_a_small_run_fills_its_page(composed, tmp_path):
    about = run(composed("experiment=intriguing/fingerprint", *QUICK), tmp_path, [], Console(quiet=True))
    page = read(about, read_records(tmp_path), tmp_path)
    by = {table.name: table for table in page.all_tables}

    assert about.status == "complete"
    assert [s.name for s in page.sections] == ["lesson-section", "transfer-pgd", "ablation-section"]
    assert {name: len(t.rows) for name, t in by.items()} == {
        "lesson": 5, "crossed-pgd": 3, "beyond-pgd": 2, "ablation": 9,
    }  # fmt: skip
    for table in by.values():
        assert all(v is not None and math.isfinite(v.ours) and v.paper is None for _, row in table.rows for v in row)
    crossed, beyond = by["crossed-pgd"].rows, by["beyond-pgd"].rows
    assert crossed[0][1][0].ours >= crossed[2][1][0].ours  # its own do not mend the template's errors
    assert len(beyond) == 2
    for section in page.sections:
        assert section.claim
        assert section.null
        assert section.answer
    filters, templates = page.sections[-1].pictures
    assert filters.images[0][0].startswith("8 edges, nothing learnt")
    assert all(image.min() >= 0 and image.max() <= 1 for p in (filters, templates) for _, image in p.images)
    assert "changes 0 of" in page.sections[0].answer


def test_the_pair_is_judged_on_images_that_no_template_is_made_of(data):
    study = Edges()
    kept, held = study._halves(data)

    assert not set(kept.ids) & set(held.ids)
    assert set(kept.labels) == set(held.labels) == {1, 8}
    assert study.cohorts(data, MODELS, 0)[2].train is not None
    assert study.cohorts(data, MODELS, 0)[2].train.fingerprint == kept.fingerprint
    last = [i for i, y in zip(data.train.ids, data.train.labels, strict=True) if y == 8][-1]
    assert last in held.ids


def test_what_it_cannot_do_is_said(data):
    with pytest.raises(InputError, match="must name a chosen model of fingerprints"):
        Edges(network="softmax").cohorts(data, MODELS, 0)
    with pytest.raises(InputError, match=r"study\.pair: must be two classes"):
        Edges(pair=["8", "cat"]).cohorts(data, MODELS, 0)
    with pytest.raises(InputError, match="attack: must be one or more"):
        Edges().trials(data, {}, 0)
    with pytest.raises(InputError, match="pair: must be two classes"):
        Edges(pair=[1])
    with pytest.raises(InputError, match="got none in digits"):
        Edges().cohorts(Data("digits", "", None, data.test), MODELS, 0)
    wide = Samples.of(np.zeros((6, 1, 4, 8), np.float32), [0, 1] * 3, ["0", "1"], "w")
    with pytest.raises(InputError, match="must have square images"):
        Edges(pair=[0, 1]).cohorts(Data("wide", "", wide, wide), MODELS, 0)


def test_variants_do_not_take_part_in_the_transfer(data):
    crossed, variants, pair = Edges(draws=2).trials(data, {"pgd": PGD()}, 0)

    assert crossed.transfer
    assert crossed.models is None
    assert {"_pair", "_straight", "_random_1"} <= set(crossed.without)
    assert len(variants.models or ()) == 9
    assert len(pair.models or ()) == 5
    assert not pair.attacks
