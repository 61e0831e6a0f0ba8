"""What `--help` shows is what a run would have."""

from __future__ import annotations

import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from eval.schema import CONF, register
from eval.usage import options, usage


@pytest.mark.parametrize("experiment", options(CONF, "experiment"))
def test_the_options_are_shown_that_an_experiment_chooses(experiment):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    text = usage(CONF, [f"experiment={experiment}"])
    assert "no such option" not in text
    headings = re.findall(r"^  (\S+): +# (\w+)=(\S+)$", text, re.MULTILINE)
    for group in ("data", "threat", "train", "study"):
        chosen = config.hydra.runtime.choices.get(group)
        assert [option for _, g, option in headings if g == group] == ([] if chosen is None else [chosen])
    for group in ("model", "attack"):
        composed = {f"{group}.{name}" for name, keys in config[group].items() if OmegaConf.is_dict(keys)}
        assert {place for place, g, _ in headings if g == group} == composed


def test_the_keys_of_an_experiment_stand_where_they_are_set():
    text = usage(CONF, ["experiment=benchmark"])
    assert "\n  title: Speed\n" in text
    assert "\n    rounds: 5  " in text
    assert "\n  model.mlp_relu:   # model=mlp_relu\n" in text


def test_the_command_line_goes_before_the_experiment():
    text = usage(CONF, ["experiment=benchmark", "model=softmax", "attack=[pgd]"])
    assert "# model=softmax" in text
    assert "# model=mlp_relu" not in text
    assert "# attack=pgd" in text
