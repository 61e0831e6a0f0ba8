"""Importing a user's code, whose modules may be called `models` or `eval` as ours are.

A user's folder becomes a package of its own, the borrowed namespace: `models/resnet.py` of theirs is
`_borrowed_0.models.resnet` in `sys.modules`, where it meets nobody. Their modules get an `__import__` of their own
that looks into that package first, so that `import utils` and `from models.resnet import Net` find what stands beside
them, at the top of a file as well as within functions, now and later. `sys.path` and the modules of ours are left
alone. What a user's code imports with `importlib.import_module` goes the same way; what other libraries import on its
behalf, by name, does not. A file that is asked for is itself loaded, whatever it is called: `json.py` is theirs there,
while `import json` means the standard library everywhere.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from models.errors import ModelError

OURS = frozenset({"attacks", "conf", "eval", "models", "reports"})
BORROWED = "_borrowed_"
_OUR_ROOT = Path(__file__).resolve().parent.parent
_NOT_THEIRS = (
    *(_OUR_ROOT / name for name in OURS),
    *(Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")),
)
"""Folders of code that no user has to look into."""


class _Loader(SourceFileLoader):
    """Runs a module with the builtins of its namespace; bytecode is not written into a user's folder."""

    def __init__(self, fullname: str, path: str, namespace: Namespace) -> None:
        super().__init__(fullname, path)
        self.namespace = namespace

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        module.__dict__["__builtins__"] = self.namespace.builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of all borrowed namespaces, and nothing else."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a borrowed module."""
        namespace = self.namespaces.get(fullname.partition(".")[0])
        if namespace is None:
            return None
        if fullname in namespace.files:
            file = str(namespace.files[fullname])
            return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, file, namespace))
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, namespace)
        return spec


_FINDER = _Finder()


class Namespace:
    """The modules of one user's project.

    Attributes:
        name: of the package that they live in.
        roots: folders whose modules it holds.
        files: modules by their full names that no import by name would find.
        builtins: with which they run.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.name = f"{BORROWED}{len(_FINDER.namespaces)}"
        self.roots = tuple(roots)
        self.files: dict[str, Path] = {}
        self._held: dict[str, bool] = {}
        package = ModuleType(self.name, "A user's modules.")
        package.__path__ = [str(root) for root in roots]
        sys.modules[self.name] = package
        self.builtins: dict[str, Any] = {**vars(builtins), "__import__": self._import}
        self._importlib = ModuleType("importlib", importlib.__doc__)
        self._importlib.__dict__.update(vars(importlib))
        self._importlib.__dict__["import_module"] = self._import_module
        _FINDER.namespaces[self.name] = self

    @property
    def _path(self) -> list[str]:
        path: list[str] = sys.modules[self.name].__path__  # type: ignore[assignment]
        return path

    def holds(self, top: str) -> bool:
        """Whether a top-level name is the user's."""
        if top not in self._held or (top in OURS and not self._held[top]):
            self._held[top] = self._look_for(top)
        return self._held[top]

    def _look_for(self, top: str) -> bool:
        if top in sys.stdlib_module_names or not top:
            return False
        spec = PathFinder.find_spec(f"{self.name}.{top}", self._path)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            return True
        if top in OURS:
            return spec is not None or self._adopt(top)
        return spec is not None and _elsewhere(top) is None  # a folder without __init__ yields to a real package

    def _adopt(self, top: str) -> bool:
        """Find a name that we use too on the rest of `sys.path`, which a user's code may have extended."""
        for entry in sys.path:
            if Path(entry or ".").resolve() != _OUR_ROOT and PathFinder.find_spec(top, [entry or "."]) is not None:
                self._path.append(entry or ".")
                importlib.invalidate_caches()
                return True
        return False

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`builtins.__import__`, with the user's own modules first."""
        top = name.partition(".")[0]
        if level == 0 and name == "importlib":
            return self._importlib
        if level == 0 and self.holds(top):
            module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or ("__name__",), 0)
            return module if fromlist else sys.modules[f"{self.name}.{top}"]
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """`importlib.import_module`, with the user's own modules first."""
        if not name.startswith(".") and self.holds(name.partition(".")[0]):
            name = f"{self.name}.{name}"
        elif name.startswith(".") and package is not None and self.holds(package.partition(".")[0]):
            package = f"{self.name}.{package}"
        return importlib.import_module(name, package)

    def load(self, name: str) -> ModuleType:
        """Import the user's module `name`."""
        return self._import_module(name)

    def load_file(self, path: Path, package: str) -> ModuleType:
        """Import the user's file `path`, which stands in their package `package`, or in none: ''."""
        above = f"{self.name}.{package}" if package else self.name
        if path.stem == "__init__":
            return importlib.import_module(above)
        name = f"{above}.{path.stem}"
        found = importlib.util.find_spec(name) if "." not in path.stem else None
        if found is None or found.origin != str(path):  # `net.v2.py`, or `net.py` beside a package `net`
            name = f"{above}.{path.name.replace('.', ':')}"
            self.files[name] = path
        return importlib.import_module(name)


def _elsewhere(top: str) -> ModuleSpec | None:
    """The module of that name that a plain import would find, if it is more than a folder."""
    if top in sys.modules:
        return sys.modules[top].__spec__
    spec = PathFinder.find_spec(top)
    return spec if spec is not None and spec.loader is not None else None


_NAMESPACES: dict[tuple[Path, ...], Namespace] = {}


def _namespace(roots: Sequence[Path]) -> Namespace:
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    key = tuple(roots)
    if key not in _NAMESPACES:
        _NAMESPACES[key] = Namespace(roots)
    return _NAMESPACES[key]


def _project(path: Path) -> tuple[Namespace, str]:
    """The namespace of a file and the package that it stands in, whose folder is the root; then the present one."""
    parts: list[str] = []
    root = path.parent
    while (root / "__init__.py").exists() and root.name and "." not in root.name:
        parts.insert(0, root.name)
        root = root.parent
    here = Path.cwd().resolve()
    roots = [root] if here in (root, _OUR_ROOT) or here not in root.parents else [root, here]
    return _namespace(roots), ".".join(parts)


def import_factory(text: str, where: str) -> tuple[Callable[..., Any], str, Path | None]:
    """What `path/to/file.py:name` or `package.module:name` names, the name, and the file that it stands in.

    Raises:
        ModelError: the text, the file or the name is wrong, or the user's code fails while it is imported.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ModelError(f"{where}: must be path/to/file.py:factory or package.module:factory, got {text!r}")
    path: Path | None = None
    if place.endswith(".py"):
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise ModelError(f"{where}: must name a file that exists, got {place} (looked for {path})")
        namespace, package = _project(path)
    elif "/" in place or "\\" in place:
        raise ModelError(f"{where}: must name a .py file before the colon, got {place!r}")
    else:
        namespace, package = _namespace([Path.cwd().resolve()]), ""
    try:
        module = namespace.load(place) if path is None else namespace.load_file(path, package)
    except Exception as error:
        raise ModelError(f"{where}: {place} must import without error, got {told(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and _public(key, value, module)]
        offers = ", ".join(known[:8]) or "none"
        raise ModelError(f"{where}: {place} must have a function {name!r}; it has {offers}")
    return factory, name, Path(module.__file__) if module.__file__ else None


def sources(factory: Callable[..., Any]) -> list[Path]:
    """The user's own files that a factory's module uses, itself among them, as far as its modules' names show it."""
    space = factory.__module__.partition(".")[0] if factory.__module__ else ""
    if not space.startswith(BORROWED):
        return []
    found: dict[str, ModuleType] = {}
    todo = [factory.__module__]
    while todo:
        name = todo.pop()
        module = sys.modules.get(name)
        if name in found or module is None or name.partition(".")[0] != space:
            continue
        found[name] = module
        for value in vars(module).values():
            todo.append(value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")))
    return sorted(Path(m.__file__) for m in found.values() if m.__file__)


def _public(key: str, value: Any, module: ModuleType) -> bool:
    return not key.startswith("_") and getattr(value, "__module__", None) == module.__name__


def told(error: Exception) -> str:
    """An error of a user's code in one line, with the innermost line of theirs: `KeyError: 'a' (at net.py:12)`."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = re.sub(rf"{BORROWED}\d+\.", "", text.strip().partition("\n")[0])
    place = _place(error)
    at = f" (at {place})" if place else ""
    if isinstance(error, ModuleNotFoundError):
        return f"{first}{at}; install it, or put it beside the file or into the folder that you start from"
    return f"{type(error).__name__}{': ' if first else ''}{first}{at}"


def _place(error: Exception) -> str:
    """The innermost line of the user's own code that an error went through, `file.py:12`; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename and _theirs(Path(error.filename), ""):
        return f"{_shown(Path(error.filename))}:{error.lineno}"
    place, trace = "", error.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        path = Path(frame.f_code.co_filename)
        if _theirs(path, str(frame.f_globals.get("__name__", ""))):
            place = f"{_shown(path)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _theirs(path: Path, module: str) -> bool:
    if not path.is_file():  # `<string>`, `<frozen importlib._bootstrap>`
        return False
    return module.startswith(BORROWED) or not any(folder in path.resolve().parents for folder in _NOT_THEIRS)


def _shown(path: Path) -> str:
    """A file of the user's relative to their project or the present folder, or else its whole path."""
    roots = [root for namespace in _NAMESPACES.values() for root in namespace.roots]
    for root in [Path.cwd().resolve(), *sorted(roots, key=lambda root: len(root.parts))]:
        if root in path.parents:
            return path.relative_to(root).as_posix()
    return str(path)
