"""Each file of conf/model and conf/train says all fields of its class, and no others."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted([*(CONF / "model").rglob("*.yaml"), CONF / "train" / "standard.yaml"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_file_says_all_fields(path: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    module, _, name = str(content.pop("_target_")).rpartition(".")
    content.pop("defaults", None)
    spec = getattr(importlib.import_module(module), name)
    assert list(content) == [f.name for f in fields(spec)]
    values = {k: v for k, v in content.items() if not (isinstance(v, str) and v.startswith(("${", "???")))}
    OmegaConf.merge(OmegaConf.structured(spec), values)  # raises for a value of a wrong type


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_model_goes_under_its_own_name(path: Path) -> None:
    if path.parent.name == "train":
        pytest.skip("train is one choice, not one of several")
    folder = path.parent.name
    name = f"{folder}_{path.stem}" if folder in ("torchvision", "timm", "planted") else path.stem
    expected = name.removesuffix("_any")
    assert path.read_text().startswith(f"# @package model.{expected}\n")


@pytest.mark.parametrize("name", ["adversarial", "finetune"])
def test_the_other_recipes_change_known_fields_alone(name: str) -> None:
    known = set(OmegaConf.load(CONF / "train" / "standard.yaml"))
    assert set(OmegaConf.load(CONF / "train" / f"{name}.yaml")) - {"defaults"} <= known


def test_torchvision_files_name_what_they_are_called() -> None:
    for path in (CONF / "model" / "torchvision").glob("*.yaml"):
        name = OmegaConf.to_container(OmegaConf.load(path))["name"]  # type: ignore[index, call-overload]
        assert name == ("???" if path.stem == "any" else path.stem)
