"""The page of the study of pools: the paper's errors beside ours where they are about the same data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.studied import page, studied

SMALL = (
    "experiment=intriguing/pools",
    "debug=quick",
    *("study.pools=[[1],[0,1,2]]", "study.noise=[]", "study.seeds=2"),
    *("study.every=4", "study.fresh=32", "study.size=64", "study.distorted=5"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(tmp_path_factory.mktemp("pools"), *SMALL)


def test_the_papers_errors_stand_beside_ours_on_mnist_alone(folder: Path, tmp_path: Path) -> None:
    on_digits, on_mnist = page(folder, "digits", tmp_path / "digits"), page(folder, "mnist", tmp_path / "mnist")

    for said in ("paper 1.60%", "paper 1.30%", "paper 1.20%", "The paper: below 1.2% with pools at every layer, 1.6%"):
        assert said in on_mnist
        assert said not in on_digits
    for said in (
        "Test errors",
        "Differences",
        "weight decay alone",
        "pools at input, hidden 1 and 2",
        "kinds of pools",
    ):
        assert said in on_digits
    assert 'id="findings"' in on_digits
