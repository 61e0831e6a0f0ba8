from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from models.errors import ModelError
from models.history import Progress
from models.paper import MLP, Softmax
from models.spec import Spec, build
from models.store import Trained, load_or_fit, read_header
from models.train import Source, TrainConfig
from models.weights import fingerprint

RECIPE = TrainConfig(epochs=2, batch_size=16)


def obtain(
    root: Path,
    source: Source,
    config: TrainConfig = RECIPE,
    spec: Spec = MLP(widths=[4], decay=[1e-5]),  # noqa: B008  (frozen)
    **changes: Any,
) -> tuple[Trained, str]:
    options = {"name": "m", "data": "f00d", "input_shape": (1, 8, 8), "seed": 0, **changes}
    network = build(spec, options["name"], (1, 8, 8), 3, seed=options["seed"])[options["name"]]
    trained = load_or_fit(network, spec, config, source, root=root, **options)
    assert not network.module.training
    return trained, fingerprint(network.module)


def test_the_same_configuration_trains_once(blobs: Source, tmp_path: Path) -> None:
    first, weights = obtain(tmp_path, blobs)

    def never(report: Progress) -> None:
        raise AssertionError("trained again")

    second, again = obtain(tmp_path, blobs, progress=never)
    assert (first.loaded, second.loaded) == (False, True)
    assert weights == again
    assert first.history == second.history
    assert first.key == second.key


@pytest.mark.parametrize(
    "change",
    [
        {"config": replace(RECIPE, lr=0.02)},
        {"spec": MLP(widths=[5], decay=[1e-5])},
        {"spec": MLP(widths=[4], decay=[1e-4])},
        {"spec": MLP(widths=[4], decay=[1e-5], activation="relu")},
        {"seed": 1},
        {"data": "beef"},
        {"name": "other"},
        {"config": replace(RECIPE, adversary={"steps": 7})},
    ],
)
def test_another_configuration_has_another_key(blobs: Source, tmp_path: Path, change: dict[str, Any]) -> None:
    assert obtain(tmp_path, blobs)[0].key != obtain(tmp_path, blobs, **change)[0].key


def test_the_key_does_not_depend_on_how_a_list_came(blobs: Source, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    listed = MLP(widths=OmegaConf.create([4]), decay=OmegaConf.create([1e-5]))  # type: ignore[arg-type]
    assert obtain(tmp_path, blobs)[0].key == obtain(tmp_path, blobs, spec=listed)[0].key


def test_the_header_says_what_produced_the_file(blobs: Source, tmp_path: Path) -> None:
    trained, _ = obtain(tmp_path, blobs)
    header = read_header(trained.path)
    assert header == trained.header
    assert header["model"]["class"] == "models.paper.MLP"
    assert header["train"]["lr"] == RECIPE.lr
    assert len(header["history"]["epochs"]) == 2
    with safe_open(trained.path, framework="pt") as file:
        assert json.loads(file.metadata()["toastproof"]) == header


def test_a_finished_fit_leaves_one_file(blobs: Source, tmp_path: Path) -> None:
    trained, _ = obtain(tmp_path, blobs)
    assert list(tmp_path.iterdir()) == [trained.path]


def test_an_interrupted_fit_goes_on(blobs: Source, tmp_path: Path) -> None:
    epochs: list[int] = []

    def stop(report: Progress) -> None:
        epochs.append(report.epoch)
        if report.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(tmp_path / "a", blobs, progress=stop)
    assert [p.suffix for p in (tmp_path / "a").iterdir()] == [".partial"]
    epochs.clear()
    _, resumed = obtain(tmp_path / "a", blobs, progress=lambda report: epochs.append(report.epoch))
    assert set(epochs) == {1}
    assert resumed == obtain(tmp_path / "b", blobs)[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_one_clear_line(blobs: Source, tmp_path: Path, share: float) -> None:
    path = obtain(tmp_path, blobs)[0].path
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"cut short.*; delete it and run again") as caught:
        obtain(tmp_path, blobs)
    assert "\n" not in str(caught.value)


def test_who_may_read_other_files_may_read_a_checkpoint(blobs: Source, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    assert obtain(tmp_path, blobs)[0].path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be a file that can be read, got: Is a directory$"):
        read_header(tmp_path)


def test_an_unwritable_folder_is_one_clear_line(blobs: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="must be a writable folder"):
        obtain(tmp_path / "file" / "inside", blobs)


def test_finetuning_starts_from_the_base_and_keeps_what_is_frozen(blobs: Source, tmp_path: Path) -> None:
    spec = MLP(widths=[6, 5], decay=[1e-5])
    base, _ = obtain(tmp_path, blobs, spec=spec)
    config = replace(RECIPE, method="finetune", base=str(base.path), freeze=["*"])
    network = build(spec, "m", (1, 8, 8), 2, seed=0)["m"]
    two = type(blobs)()
    two.labels = blobs.labels % 2
    load_or_fit(network, spec, config, two, root=tmp_path, name="m", data="x", input_shape=(1, 8, 8), seed=0)
    with safe_open(base.path, framework="pt") as file:
        for key in ("1.weight", "1.bias", "3.weight", "3.bias"):
            assert torch.equal(file.get_tensor(key), network.module.state_dict()[key])
    assert network.module.get_parameter("5.weight").shape == (2, 5)


def test_another_base_has_another_key(blobs: Source, tmp_path: Path) -> None:
    spec = Softmax()
    keys = set()
    for seed in (0, 1):
        base = obtain(tmp_path, blobs, spec=spec, seed=seed)[0].path
        base = base.rename(tmp_path / "base.safetensors")
        config = replace(RECIPE, method="finetune", base=str(base))
        keys.add(obtain(tmp_path, blobs, config, spec)[0].key)
    assert len(keys) == 2
