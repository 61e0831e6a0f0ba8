"""Gradients in 16 bits: where they are taken, what is recorded of it, and that every success holds in 32."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig
from rich.console import Console

from eval import device as devices
from eval import speed
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from models import reduced
from models.classifier import Classifier
from models.convnets import CNN
from models.fused import Fused
from models.spec import build

SMALL = ("model=cnn", "train.epochs=2", "data.limit=60", "transfer=false", "attack=[pgd,quick]", "controls=false")
X = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> Classifier:
    return build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("precision")


def made(cfg: DictConfig, folder: Path) -> tuple[Run, pd.DataFrame]:
    folder.mkdir(exist_ok=True)
    return run(cfg, folder, [], Console(quiet=True)), read_records(folder)


def test_a_run_in_16_bits_says_so_and_finds_what_one_in_32_does(composed, place):
    curve = ("threat.eps=0.05", "threat.curve=[0.05,0.1]")
    (exact, rows), (rough, others) = (
        made(composed(*SMALL, *curve, f"precision={p}"), place / p) for p in ("float32", "bfloat16")
    )
    assert [m["gradients"] for m in exact.models] == ["float32"]
    assert [m["gradients"] for m in rough.models] == ["bfloat16"]
    assert rough.warnings == exact.warnings
    rates = [
        df[df["role"] == "attack"].groupby(["attack", "eps_text"], observed=True)["success"].mean()
        for df in (rows, others)
    ]
    assert (rates[0] - rates[1]).abs().max() <= 2 / 60
    # what bears no rounding is the same
    assert rates[0]["quick"].equals(rates[1]["quick"])
    (asked, asked_again) = (df[df["attack"] == "pgd"]["forwards"].sum() for df in (rows, others))
    assert asked_again > asked  # successes are asked for again


def test_parts_of_one_are_not_taken_for_those_of_the_other(composed, place):
    for p in ("float32", "bfloat16"):
        made(composed(*SMALL, "threat.curve=[]", f"precision={p}"), place / f"parts-{p}")
    one, other = ({f.name for f in (place / f"parts-{p}" / "parts").iterdir()} for p in ("float32", "bfloat16"))
    assert len(one - other) == len(other - one) == 1  # that of pgd; clean rows and the cascade are shared


def test_a_cascade_with_a_stage_in_16_bits_has_parts_of_its_own(composed, place, monkeypatch):
    monkeypatch.setattr("attacks.apgd.APGD.bears_rounding", True, raising=False)  # a stage that may
    for p in ("float32", "bfloat16"):
        cfg = composed(*SMALL, "attack=[quick]", "threat.curve=[]", f"precision={p}")
        made(cfg, place / f"stages-{p}")
    one, other = ({f.name for f in (place / f"stages-{p}" / "parts").iterdir()} for p in ("float32", "bfloat16"))
    assert len(one - other) == len(other - one) == 1


def test_the_rule_looks_at_machine_and_network(net, monkeypatch):
    monkeypatch.setattr(speed, "native", lambda device: True)
    assert speed.reduce(net, X, 2_000_000, "auto") is not None
    assert speed.reduce(net, X, 10_000, "auto") is None
    assert speed.reduce(net, X, 2_000_000, "float32") is None
    assert speed.reduce(net, X, 10_000, "bfloat16") is not None
    monkeypatch.setattr(speed, "native", lambda device: False)
    assert speed.reduce(net, X, 2_000_000, "auto") is None


def test_what_16_bits_would_change_is_searched_in_32(net, monkeypatch, composed, place):
    monkeypatch.setattr(speed, "agrees", lambda *_: False)
    assert speed.reduce(net, X, 2_000_000, "bfloat16") is None
    about, _ = made(composed(*SMALL, "attack=[fgsm]", "precision=bfloat16"), place / "refused")
    assert about.models[0]["gradients"] == "float32"
    assert about.warnings == ["cnn: gradients are in float32, since bfloat16 changes what the network says"]


def test_a_device_is_asked_whether_it_can(monkeypatch):
    assert isinstance(reduced.native(torch.device("cpu")), bool)
    assert reduced.native(torch.device("mps")) is False
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert reduced.native(torch.device("cuda")) is True


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_a_gpu_rounds_only_where_it_is_asked_to():
    before = flags()
    try:
        devices.rounding(False)
        assert flags() == (False, False)
        with devices.rounded(torch.device("cuda"), True):
            assert flags() == (True, True)
        assert flags() == (False, False)
        for device, allowed in (("cuda", False), ("cpu", True)):
            with devices.rounded(torch.device(device), allowed):
                assert flags() == (False, False)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_an_unknown_precision_is_refused(composed):
    with pytest.raises(InputError, match="precision: must be one of auto, float32, bfloat16, got half"):
        run(composed("precision=half"), Path(), [], Console(quiet=True))


def test_each_form_can_be_switched_off(composed, place):
    about, _ = made(
        composed(*SMALL, "attack=[fgsm]", "fold=false", "channels_last=false", "fuse=false", "precision=float32"),
        place / "plain",
    )
    said = {key: about.models[0][key] for key in ("folded", "channels_last", "gradients", "graphs", "fused")}
    assert said == {"folded": False, "channels_last": False, "gradients": "float32", "graphs": False, "fused": False}
    about, _ = made(composed(*SMALL, "attack=[fgsm]"), place / "usual")
    assert about.models[0]["channels_last"] is True


def test_a_perceptron_in_one_piece_has_the_very_records_of_one_layer_by_layer(composed, place):
    small = ("model=mlp", "train.epochs=2", "data.limit=40", "attack=[fgsm,pgd,quick]", "threat.curve=[]")
    (once, rows), (apart, others) = (
        made(composed(*small, f"fuse={f}"), place / f"fuse-{f}") for f in ("true", "false")
    )
    assert (once.models[0]["fused"], apart.models[0]["fused"]) == (True, False)
    timeless = [column for column in rows if not column.startswith("seconds")]
    pd.testing.assert_frame_equal(rows[timeless], others[timeless])
    assert rows["backwards"].sum() > 0


def test_attacks_ask_it_in_one_piece(composed, place, monkeypatch):
    asked = []
    vjp = Fused.vjp
    monkeypatch.setattr(Fused, "vjp", lambda self, x: asked.append(len(x)) or vjp(self, x))
    small = ("model=mlp", "train.epochs=2", "data.limit=40", "attack=[pgd]", "threat.curve=[]", "controls=false")
    made(composed(*small), place / "asked")
    assert len(asked) > 10  # more than two trials
