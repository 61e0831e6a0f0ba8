from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import models
import models.paper
from models.errors import ModelError
from models.foreign import import_factory

FILES = {
    "models/__init__.py": "from .resnet import WIDTH\n",
    "models/resnet.py": "from utils import SCALE\nfrom .blocks import Block\nimport models.blocks as b\n"
    "WIDTH = 2 * SCALE\nSAME = b.Block is Block\n",
    "models/blocks.py": "class Block: pass\n",
    "utils.py": "SCALE = 7\n",
    "eval.py": "import models.resnet\nKIND = 'theirs'\ndef width(): return models.resnet.WIDTH\n",
    "reports/__init__.py": "",
    "reports/deep/__init__.py": "from ...utils import SCALE\n",
    "net.py": """
from __future__ import annotations
import importlib
import dataclasses
import eval
import models.resnet
from models import WIDTH, blocks
from models.resnet import *

@dataclasses.dataclass
class Options:
    width: int = WIDTH

def top(): return WIDTH, eval.KIND, SAME, Options().width
def lazy():
    import utils
    from models.blocks import Block
    return utils.SCALE, Block is blocks.Block
def dynamic(): return importlib.import_module("models.resnet").WIDTH
def dynamic_from():
    from importlib import import_module
    return import_module("models.late").LATE
def dotted():
    import models.late
    return models.late.LATE
def deep():
    from reports.deep import SCALE
    return SCALE
def outside():
    import torch.nn, numpy, json
    from torch.nn import functional
    return torch.nn.functional is functional and json.dumps(1) == "1"
def path(): return __file__
""",
    "models/late.py": "LATE = 'late'\n",
    "package/__init__.py": "",
    "package/inner.py": "from . import sibling\nfrom models import WIDTH\ndef make(): return sibling.VALUE + WIDTH\n",
    "package/sibling.py": "VALUE = 1\n",
    "plain/net.py": "from models.resnet import WIDTH\ndef make(): return WIDTH\n",
    "broken.py": "import nowhere_to_be_found\n",
    "syntax.py": "def make(:\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def call(project: Path, place: str) -> Any:
    factory, _, _ = import_factory(f"{project / place}", "model.path")
    return factory()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top", (14, "theirs", True, 14)),
        ("lazy", (7, True)),
        ("dynamic", 14),
        ("dynamic_from", "late"),
        ("dotted", "late"),
        ("deep", 7),
        ("outside", True),
    ],
)
def test_their_modules_are_theirs(project: Path, name: str, value: object) -> None:
    assert call(project, f"net.py:{name}") == value


def test_ours_are_ours_afterwards(project: Path) -> None:
    before = dict(sys.modules)
    path = list(sys.path)
    call(project, "net.py:top")
    assert sys.modules["models"] is models is importlib.import_module("models")
    assert all(sys.modules[name] is module for name, module in before.items())
    assert all(name.startswith("_borrowed_") for name in sys.modules.keys() - before.keys())
    assert sys.path == path


def test_a_file_within_a_package_imports_its_siblings_and_the_top(project: Path) -> None:
    assert call(project, "package/inner.py:make") == 15


def test_a_file_below_the_present_folder_imports_from_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert call(Path("plain"), "net.py:make") == 14


def test_a_dotted_name_starts_from_the_present_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    factory, name, file = import_factory("models.resnet:Block", "model.path")
    assert (factory.__name__, name, file) == ("Block", "Block", project / "models" / "resnet.py")


def test_an_installed_package_is_found() -> None:
    factory, _, _ = import_factory("torch.nn:Identity", "model.path")
    assert factory is importlib.import_module("torch.nn").Identity


def test_two_projects_do_not_meet(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "models").mkdir()
    (other / "models" / "resnet.py").write_text("WIDTH = 3\n")  # a folder without __init__
    (other / "net.py").write_text("from models.resnet import WIDTH\ndef top(): return WIDTH\n")
    assert call(other, "net.py:top") == 3
    assert call(project, "net.py:top")[0] == 14


def test_a_path_that_their_code_adds_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib" / "models").mkdir(parents=True)
    (tmp_path / "lib" / "models" / "far.py").write_text("FAR = 'far'\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "net.py").write_text(
        f"import sys\nsys.path.append({str(tmp_path / 'lib')!r})\nfrom models.far import FAR\ndef make(): return FAR\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert call(tmp_path / "work", "net.py:make") == "far"


def test_nothing_is_written_into_their_folder(project: Path) -> None:
    call(project, "net.py:top")
    assert not list(project.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("net.py", "must be path/to/file.py:factory"),
        ("net.py:", "must be path/to/file.py:factory"),
        ("nowhere.py:make", "file that exists"),
        ("net.pt:make", "must name a .py file"),
        ("net.py:missing", "must have a function 'missing'; it has Options, top, lazy"),
        ("broken.py:make", "No module named 'nowhere_to_be_found'; install it, or put it beside"),
        ("syntax.py:make", "SyntaxError"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(project: Path, text: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_factory(f"{project}/{text}", "model.path")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_nowhere_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match="No module named 'no_such_package'"):
        import_factory("no_such_package.net:make", "model.path")


def test_the_factory_of_our_own_tree_is_still_reachable() -> None:
    factory: Callable[..., Any] = import_factory("models.paper:Softmax", "model.path")[0]
    assert factory.__name__ == "Softmax"
