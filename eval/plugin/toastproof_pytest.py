"""The pytest plugin: `pytest --toastproof robustness.json`, and the fixture `robust_accuracy`.

pytest imports it in every session of an environment, beside packages of the user's that may be called `models` or
`eval` as ours are. So it is a top-level module of a name that nobody else has, imports none of ours before it is
asked to, and then under the names `_toastproof.eval` and so on: their imports look there first, at the top of a file
and within functions, while `sys.path`, `sys.modules["models"]` and the user's own imports stay as they are.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_OURS = frozenset({"attacks", "conf", "eval", "models", "reports"})
_SPACE = "_toastproof"
_HERE = Path(__file__).resolve().parent
ROOT = _HERE if (_HERE / "eval" / "gate").is_dir() else _HERE.parents[1]  # installed, or in a checkout


class _Loader(SourceFileLoader):
    """Runs a module with builtins whose `__import__` finds ours."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        module.__dict__["__builtins__"] = _BUILTINS
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds `_toastproof.eval` and the like, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of ours."""
        if not fullname.startswith(f"{_SPACE}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """`builtins.__import__`, with our packages first."""
    top = name.partition(".")[0]
    if level == 0 and name == "importlib":
        return _IMPORTLIB
    if level or top not in _OURS:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    module = builtins.__import__(f"{_SPACE}.{name}", globals, locals, fromlist or ("__name__",), 0)
    return module if fromlist else sys.modules[f"{_SPACE}.{top}"]


def ours(name: str) -> ModuleType:
    """Our module of that name, beside whatever else is called so."""
    if _SPACE not in sys.modules:
        package = ModuleType(_SPACE, "The packages of Toastproof, out of the way of others of their names.")
        package.__path__ = [str(ROOT)]
        sys.modules[_SPACE] = package
        sys.meta_path.insert(0, _Finder())
    return importlib.import_module(f"{_SPACE}.{name}")


def _import_module(name: str, package: str | None = None) -> ModuleType:
    """`importlib.import_module`, with our packages first."""
    return ours(name) if name.partition(".")[0] in _OURS else importlib.import_module(name, package)


_BUILTINS: dict[str, Any] = {**vars(builtins), "__import__": _import}
_IMPORTLIB = ModuleType("importlib", importlib.__doc__)
_IMPORTLIB.__dict__.update(vars(importlib))
_IMPORTLIB.__dict__["import_module"] = _import_module


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """The options. Nothing is imported for them."""
    # pytest rewrites the asserts of all packages of a distribution with a plugin, by name: of the user's `models` too.
    getattr(pluginmanager.rewrite_hook, "_must_rewrite", set()).difference_update(_OURS)
    group = parser.getgroup("toastproof", "robustness of networks (toastproof)")
    group.addoption(
        "--toastproof",
        metavar="FILE",
        help="evaluate the network of today as the baseline FILE was made (toastproof-gate accept), and test each "
        "network, attack and eps against it",
    )
    group.addoption(
        "--toastproof-config",
        metavar="OVERRIDES",
        action="append",
        default=[],
        help="on top of what the baseline remembers, such as 'model.weights=new.safetensors device=cpu'",
    )
    group.addoption(
        "--toastproof-run",
        metavar="DIR",
        help="where the evaluation is kept and gone on with; default: .toastproof/<name of FILE>",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the baseline, if one is asked for."""
    config.addinivalue_line("markers", "toastproof: compares a network with its baseline (pytest --toastproof)")
    if config.getoption("toastproof") is None:
        for name in ("toastproof_config", "toastproof_run"):
            if config.getoption(name):
                raise pytest.UsageError(f"--{name.replace('_', '-')}: must come with --toastproof FILE")
        return
    gate = Gate(config)
    config.stash[_GATE] = gate
    here = config.invocation_params.dir
    if not any((here / arg.partition("::")[0]).resolve() == gate.path for arg in config.args):
        config.args.append(str(gate.path))


class Gate:
    """The comparison of one session.

    Attributes:
        path: the baseline.
        baseline: what it holds.
        found: the comparison, once there is one.
        page: with pictures of the samples that were lost, once there is one.
    """

    def __init__(self, config: pytest.Config) -> None:
        here, option = config.invocation_params.dir, Path(config.getoption("toastproof")).expanduser()
        self.config = config
        self.home = here if config.inipath is None else config.rootpath
        self.path = next((p for p in (here / option, self.home / option) if p.exists()), here / option).resolve()
        with _refused():
            self.baseline = ours("eval.gate.baseline").Baseline.read(self.path)
        self.found: Any = None
        self.page: Path | None = None

    def evaluate(self) -> None:
        """Evaluate the networks of today.

        Raises:
            pytest.UsageError: they cannot be, or not be compared with the baseline; in one line.
        """
        again, chosen = ours("eval.gate.again"), self.config.getoption("toastproof_run")
        folder = again.place(self.path, self.home) if chosen is None else self.config.invocation_params.dir / chosen
        more = self.config.getoption("toastproof_config")
        with _refused():
            if not hasattr(self.config, "workerinput"):  # else of pytest-xdist, whose first process has done it
                again.again(self.baseline, folder, more, self.home, anew=chosen is None, tell=self.tell)
            self.found = ours("eval.gate.compare").against(self.baseline, ours("eval.gate.snapshot").read_run(folder))
            self.page = folder / "gate.html"
            if not hasattr(self.config, "workerinput"):
                text = ours("reports.gate.page").page(self.found, self.baseline)
                self.page.write_text(text, encoding="utf-8", newline="")

    def tell(self, text: str) -> None:
        """Say what is being done."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"toastproof: {text}")

    def finding(self, cell: Any) -> Any:
        """What became of a cell of the baseline."""
        if self.found is None:
            self.evaluate()
        return next(f for f in self.found.findings if f.cell == cell)


_GATE: pytest.StashKey[Gate] = pytest.StashKey()


@contextmanager
def _refused() -> Iterator[None]:
    """Make usage errors of what we refuse."""
    try:
        yield
    except (ours("eval.errors").InputError, OSError) as error:
        raise pytest.UsageError(f"toastproof: {error}") from None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The tests of the baseline."""
    gate = parent.config.stash.get(_GATE, None)
    if gate is None or file_path.resolve() != gate.path:
        return None
    return BaselineFile.from_parent(parent, path=file_path)


class BaselineFile(pytest.File):
    """A baseline, whose cells are tests."""

    def collect(self) -> Iterable[pytest.Item]:
        """A test a cell."""
        return [CellItem.of(self, cell) for cell in self.config.stash[_GATE].baseline.snapshot.cells]


class CellItem(pytest.Item):
    """A test that no samples of a cell were lost beyond chance."""

    cell: Any

    @classmethod
    def of(cls, parent: BaselineFile, cell: Any) -> CellItem:
        """The test of a cell."""
        item: CellItem = cls.from_parent(parent, name=ours("eval.gate.told").name(cell))
        item.cell = cell
        item.add_marker("toastproof")
        return item

    def runtest(self) -> None:
        """Fail if too many were."""
        finding = self.config.stash[_GATE].finding(self.cell)
        if finding.failed:
            raise _LostError(finding)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was lost, without a traceback."""
        if not isinstance(excinfo.value, _LostError):
            return super().repr_failure(excinfo, style)
        told = ours("eval.gate.told").failure(excinfo.value.args[0])
        return f"{told}\npictures: {self.config.stash[_GATE].page}"

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands, for reports."""
        return self.path, None, self.name


class _LostError(Exception):
    """A cell failed; with its finding."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each cell once, where the baseline was named and stands in a folder that was named too."""
    cells: dict[str, pytest.Item] = {}
    items[:] = [i for i in items if not isinstance(i, CellItem) or cells.setdefault(i.nodeid, i) is i]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Evaluate before the first test, where a refusal ends the session as any wrong usage does."""
    gate = session.config.stash.get(_GATE, None)
    if gate is None or session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    spread = session.config.pluginmanager.has_plugin("dsession")  # pytest-xdist, whose workers collect
    if spread or any(isinstance(item, CellItem) for item in session.items):
        gate.evaluate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The verdict, and where to look."""
    gate = config.stash.get(_GATE, None)
    if gate is None or gate.found is None:
        return
    terminalreporter.section("toastproof")
    terminalreporter.write_line(f"{gate.found.verdict}; {gate.page}")
    for note in gate.found.notes:
        terminalreporter.write_line(f"note: {note}")


class _Measure:
    """What the fixture is; shown by its name where an assertion fails."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        try:
            return ours("eval.live").robust_accuracy(*arguments, **named)
        except (ours("eval.errors").InputError, ours("models.errors").ModelError) as error:
            raise ValueError(str(error)) from None

    def __repr__(self) -> str:
        return "robust_accuracy"


@pytest.fixture(scope="session")
def robust_accuracy() -> _Measure:
    """Measure the robust accuracy of a network: a function.

    assert robust_accuracy(net, "linf_4_255", (x, y)) >= 0.4

    Arguments are the network, the threat (a name of conf/threat, or a norm and an eps), images with labels or a folder
    of images, and by name attack, mean, std, limit, size, seed, batch_size and the attack's own fields; see
    `eval.live.robust_accuracy`. The result is a number with n, interval, by_sample, samples and clean.
    """
    return _Measure()
