from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from eval.keys import keys
from eval.schema import CONF


def nodes(content, prefix=""):
    """All keys of a composed configuration, one below the other."""
    for key, value in content.items_ex(resolve=False) if isinstance(content, DictConfig) else content.items():
        if key not in ("_target_", "hydra"):
            yield f"{prefix}{key}"
            if isinstance(value, DictConfig):
                yield from nodes(value, f"{prefix}{key}.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=cat_to_toaster/physical"],
        ["experiment=intriguing/tables"],
        ["experiment=adversarial_training"],
        ["attack=[lbfgs/quick,foolbox/ddn]", "model=torchvision/resnet50"],
    ],
)
def test_they_are_those_that_hydra_composes(arguments, monkeypatch):
    monkeypatch.delitem(ConfigStore.instance().repo, "schema", raising=False)  # the files alone, whoever registered it
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", arguments)
    OmegaConf.set_struct(composed, False)
    ours = set(keys(CONF, arguments)) - {"experiment", "debug", "study"}
    theirs = set(nodes(composed)) - {"experiment", "debug", "study"}
    assert ours == theirs
