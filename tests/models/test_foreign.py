from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import models
import models.paper
from models.errors import ModelError
from models.foreign import import_factory, sources, told

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
    "late.py": "from models.bad import VALUE\n",
    "models/bad.py": "import json\n\nVALUE = undefined_name\n",
    "json.py": "from json import dumps\nfrom utils import SCALE\ndef net(): return dumps([SCALE]), __file__\n",
    "random.py": "import random\ndef net(): return random.random() < 1, __file__\n",
    "copy.py": "def net(): return 'copy', __file__\n",
    "code/__init__.py": "HERE = 'code'\ndef net(): return HERE, __file__\n",
    "code/json.py": "from . import HERE\nimport json\ndef net(): return json.loads('1'), __file__\n",
    "twin/__init__.py": "",
    "twin.py": "import twin\ndef net(): return twin.__file__.endswith('__init__.py'), __file__\n",
    "net.v2.py": "from utils import SCALE\ndef net(): return SCALE, __file__\n",
    "my-net.py": "def net(): return 'mine', __file__\n",
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
        ("broken.py:make", "No module named 'nowhere_to_be_found' (at broken.py:1); install it, or put it beside"),
        ("syntax.py:make", "got SyntaxError: invalid syntax (at syntax.py:1)"),
        ("late.py:make", "got NameError: name 'undefined_name' is not defined (at models/bad.py:3)"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(project: Path, text: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_factory(f"{project}/{text}", "model.path")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("json.py", "[7]"),
        ("random.py", True),
        ("copy.py", "copy"),
        ("code/__init__.py", "code"),
        ("code/json.py", 1),
        ("twin.py", True),
        ("net.v2.py", 7),
        ("my-net.py", "mine"),
    ],
)
def test_the_very_file_is_loaded_whatever_it_is_called(project: Path, file: str, value: object) -> None:
    assert call(project, f"{file}:net") == (value, str(project / file))
    factory, _, path = import_factory(f"{project / file}:net", "model.path")
    assert path == project / file
    assert path in sources(factory)


def test_a_name_of_the_standard_library_still_means_it(project: Path) -> None:
    call(project, "json.py:net")
    assert call(project, "net.py:outside")
    assert importlib.import_module("json") is json


def test_an_error_names_the_innermost_line_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\n\ndef low():\n    torch.ones(2) @ torch.ones(3)\n\ndef make():\n    low()\n"
    )
    with pytest.raises(RuntimeError) as caught:
        call(tmp_path, "bad.py:make")
    assert told(caught.value).startswith("RuntimeError: ")
    assert told(caught.value).endswith(" (at bad.py:4)")


def test_an_error_that_no_code_of_theirs_raised_has_no_line() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("?")
    caught.value.__traceback__ = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
    assert told(caught.value) == "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"


def test_a_module_that_is_nowhere_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match="No module named 'no_such_package'"):
        import_factory("no_such_package.net:make", "model.path")


def test_the_factory_of_our_own_tree_is_still_reachable() -> None:
    factory: Callable[..., Any] = import_factory("models.paper:Softmax", "model.path")[0]
    assert factory.__name__ == "Softmax"
