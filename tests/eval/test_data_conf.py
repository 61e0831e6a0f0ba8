from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import eval.data
from eval.data.downloads import SOURCES

FILES = sorted((Path(importlib.import_module("conf").__file__).parent / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_has_every_field_of_its_class_with_a_comment(file):
    content = OmegaConf.to_container(OmegaConf.load(file))
    cls = getattr(eval.data, content.pop("_target_").removeprefix("eval.data."))
    assert content.pop("defaults") == [{"optional /schema/data@_here_": cls.__name__.lower()}, "_self_"]
    assert set(content) == {field.name for field in dataclasses.fields(cls)}
    assert content["name"] == file.stem
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package data"
    assert all("#" in line for line in lines if line.partition(":")[0] in content)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_makes_a_valid_specification(file):
    content = OmegaConf.load(file)
    del content["defaults"]
    if file.stem == "images":
        content.root = "root"
    if file.stem == "arrays":
        content.path = "somewhere"
    whole = OmegaConf.merge({"paths": {"data": "root"}, "image": None, "data": content})
    content = OmegaConf.to_container(whole, resolve=True)["data"]
    cls = getattr(eval.data, content.pop("_target_").removeprefix("eval.data."))
    assert cls(**content).root == "root"


def test_every_data_set_has_a_file():
    assert {file.stem for file in FILES} == {"digits", "things", "photo", "arrays", "images", *SOURCES}
