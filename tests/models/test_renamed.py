from __future__ import annotations

from models.network import Factory
from models.paper import Softmax
from models.renamed import Renamed
from models.spec import comes_ready


def test_networks_get_the_suffix_whoever_named_them(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef one():\n    return nn.Flatten()\ndef two():\n    return nn.Flatten()\n"
    )
    paths = [f"{tmp_path}/nets.py:{name}" for name in ("one", "two")]
    assert list(Renamed(Factory(paths), "_b").build("factory", (1, 2, 2), 4)) == ["one_b", "two_b"]
    assert list(Renamed(Softmax(), "_b").build("softmax", (1, 2, 2), 4)) == ["softmax_b"]


def test_networks_come_ready_as_they_did():
    assert comes_ready(Renamed(Factory("nets.py:one"), "_b"))
    assert not comes_ready(Renamed(Softmax(), "_b"))
