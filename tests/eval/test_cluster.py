"""Runs whose parts are made by workers on Ray: the same records, whoever makes them, and whoever dies."""

from __future__ import annotations

import os
import platform
import re

import pandas as pd
import pytest

from eval.cluster import parcel
from eval.errors import InputError
from eval.records import Run, parts_made, read_examples, read_measured, read_records
from models.errors import ModelError
from tests.eval.ray_runs import SMALL, parts
from tests.eval.slow_runs import records

ray = pytest.importorskip("ray")
from eval.cluster.terms import Terms  # noqa: E402
from eval.cluster.workers import Cluster  # noqa: E402 - it needs ray


def test_workers_make_the_parts_that_one_process_makes(go, two, tmp_path):
    alone = go(tmp_path / "alone", *SMALL)
    about = go(tmp_path / "ray", *SMALL, "run.backend=ray")
    assert about.status == "complete"
    assert parts(tmp_path / "ray") == parts(tmp_path / "alone")
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))
    for mine, theirs in zip(read_examples(tmp_path / "ray"), read_examples(tmp_path / "alone"), strict=True):
        assert mine.keys() == theirs.keys()
        assert all((mine[k] == theirs[k]).all() for k in mine)
    assert about.models == alone.models
    assert not list((tmp_path / "ray").rglob(".*"))


@pytest.mark.slow
def test_one_worker_and_another_size_of_shards_make_no_difference(go, two, tmp_path):
    go(tmp_path / "alone", *SMALL)
    go(tmp_path / "ray", *SMALL, "run.backend=ray", "run.workers=1", "run.shard=7", "batch_size=3")
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))
    assert len(parts(tmp_path / "ray")) == 2 + 2 * 2 * 3 * 6


def test_what_watches_a_search_comes_back_with_its_pictures(go, two, tmp_path):
    few = ("experiment=cat_to_toaster", "data=digits", "target=3", "study.of=8", "debug=quick", "model=[softmax]")
    go(tmp_path / "alone", *few)
    go(tmp_path / "ray", *few, "run.backend=ray")
    found = [{p.name: p.read_bytes() for p in (tmp_path / n / "pictures").iterdir()} for n in ("alone", "ray")]
    assert found[0] == found[1]
    assert found[0]
    for name in {a["name"] for a in Run.read(tmp_path / "ray").attacks}:
        mine, theirs = (read_measured(tmp_path / n, f"watched:{name}") for n in ("ray", "alone"))
        assert mine.keys() == theirs.keys()


def test_a_run_goes_on_in_other_hands(go, two, tmp_path):
    go(tmp_path / "whole", *SMALL)
    go(tmp_path / "out", *SMALL)
    for path in sorted((tmp_path / "out" / "parts").iterdir())[::2]:
        path.unlink()
    left = parts(tmp_path / "out")
    before = {name: (tmp_path / "out" / "parts" / name).stat().st_mtime_ns for name in left}
    go(tmp_path / "out", *SMALL, "run.backend=ray")
    assert before == {name: (tmp_path / "out" / "parts" / name).stat().st_mtime_ns for name in left}
    pd.testing.assert_frame_equal(records(tmp_path / "out"), records(tmp_path / "whole"))


def test_a_crash_in_a_worker_is_told_and_tried_again(go, two, tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "class Fragile(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        if x.requires_grad and len(x) > 32 and Path('crash').exists():\n"
        "            raise RuntimeError('no kernel for this')\n"
        "        return super().forward(x)\n"
        "def net():\n    return Fragile(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    few = ("debug=quick", "debug.samples=120", "model=factory", "model.path=nets.py:net", "model.factory.train=true")
    few += ("attack=[fgsm,noise_uniform]",)
    (tmp_path / "crash").touch()
    about = go(tmp_path / "out", *few, "run.backend=ray")
    assert about.status == "failed"
    assert "attack.fgsm on net crashed: RuntimeError: no kernel for this" in about.warnings
    assert set(read_records(tmp_path / "out").query("attack == 'fgsm' and role == 'attack'")["error"]) == {
        "RuntimeError: no kernel for this"
    }
    (tmp_path / "crash").unlink()
    assert go(tmp_path / "out", *few, "run.backend=ray").status == "complete"
    go(tmp_path / "alone", *few)
    pd.testing.assert_frame_equal(records(tmp_path / "out"), records(tmp_path / "alone"))


FULL = """
import os, sys
from pathlib import Path
from torch import nn

def disk():
    parcel = sys.modules["eval.cluster.parcel"]
    if parcel.full.exists():
        if parcel.full.read_text() == "once":
            parcel.full.unlink()
        raise OSError(28, "No space left on device")
    return parcel.usual()

class Net(nn.Sequential):
    def forward(self, x):
        parcel = sys.modules.get("eval.cluster.parcel")
        if parcel is not None and os.getpid() != {here}:
            parcel.full = Path("full").resolve()
            if not hasattr(parcel, "usual"):
                parcel.usual = parcel.TemporaryDirectory
                parcel.TemporaryDirectory = disk
        return super().forward(x)

def net():
    return Net(nn.Flatten(), nn.Linear(64, 10))
"""
"""A network that lets the disk of the worker be full while there is a file of that name, or once."""


@pytest.mark.parametrize(("full", "status"), [("once", "complete"), ("always", "failed")])
def test_a_worker_whose_disk_is_full_does_not_end_the_run(go, two, tmp_path, monkeypatch, full, status):
    (tmp_path / "nets.py").write_text(FULL.format(here=os.getpid()))
    (tmp_path / "full").write_text(full)
    monkeypatch.chdir(tmp_path)
    few = ("debug=quick", "debug.samples=60", "model=factory", "model.path=nets.py:net", "model.factory.train=true")
    few += ("attack=[fgsm]", "run.shard=10")
    go(tmp_path / "alone", *few)
    about = go(tmp_path / "out", *few, "run.backend=ray", "run.retries=1", "run.workers=1")
    assert about.status == status
    if full == "once":
        assert not (tmp_path / "full").exists()
    else:
        said = f"attack.fgsm on net crashed: tried 2 times, on {platform.node()}: [Errno 28] No space left on device"
        assert said in about.warnings
        assert parts_made(tmp_path / "out") < about.parts
        (tmp_path / "full").unlink()
        assert go(tmp_path / "out", *few, "run.backend=ray").status == "complete"
    pd.testing.assert_frame_equal(records(tmp_path / "out"), records(tmp_path / "alone"))
    assert parts_made(tmp_path / "out") == about.parts


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (OSError(28, "No space left on device"), False),
        (FileNotFoundError(2, "No usable temporary directory found"), False),
        (FileNotFoundError(2, "No such file or directory", "nets.py"), True),
        (PermissionError(13, "Permission denied", "nets.py"), True),
        (ModelError("memory: a single image must fit"), True),
        (InputError("run.backend: a worker must have the code"), True),
    ],
    ids=str,
)
@pytest.mark.parametrize("when", ["built", "made"])
def test_what_a_worker_meets_is_refused_or_tried_again(monkeypatch, error, refused, when):
    class Workshop:
        def __init__(self, parcel):
            if when == "built":
                raise error

        def make(self, part, files):
            raise error

    monkeypatch.setattr(parcel, "Workshop", Workshop)
    monkeypatch.setattr(parcel, "_workshops", {})
    if not refused:
        with pytest.raises(OSError, match=re.escape(f"on {platform.node()}: {error}")):
            parcel.serve("run", lambda: None, "part", {})
        return
    assert parcel.serve("run", lambda: None, "part", {}).refused == f"on {platform.node()}: {error}"


def test_a_worker_with_other_code_is_refused(go, two, tmp_path, monkeypatch):
    from eval.cluster.parcel import Parcel

    of = Parcel.of

    def other(plan, about, data, once):
        from dataclasses import replace

        return of(plan, replace(about, commit="another"), data, once)

    monkeypatch.setattr(Parcel, "of", other)
    with pytest.raises(InputError, match="a worker must have the code, the files and the kind of processor of the run"):
        go(tmp_path, *SMALL, "run.backend=ray")
    about = Run.read(tmp_path)
    assert about.status == "failed"
    assert "a worker must have the code" in about.warnings[-1]


def test_a_network_of_the_users_own_is_built_by_the_worker(go, two, tmp_path, monkeypatch):
    (tmp_path / "eval.py").write_text("raise SystemExit('the user s own module')\n")
    (tmp_path / "models.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    few = ("debug=quick", "model=factory", "model.path=models.py:net", "model.factory.train=true", "attack=[pgd]")
    go(tmp_path / "alone", *few)
    go(tmp_path / "ray", *few, "run.backend=ray")
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))


def test_there_is_room_for_what_nodes_have_and_no_more_than_is_wanted(monkeypatch):
    crew = Cluster.__new__(Cluster)
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    crew._ray = type("Ray", (), {"nodes": staticmethod(lambda: nodes)})
    for cpus, gpus, workers, room in [
        (1, 0.0, None, (11, 2)),
        (2, 0.0, None, (5, 2)),
        (1, 1.0, None, (2, 1)),
        (1, 0.25, None, (8, 1)),
        (1, 0.0, 4, (4, 2)),
        (16, 0.0, None, (0, 0)),
    ]:
        crew._terms, crew._gpus = Terms(cpus=cpus, workers=workers), gpus
        assert crew.size == room


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["run.backend=slurm"], r"run.backend: must be local or ray, got slurm"),
        (["run.workers=2"], r"run.workers: is read by run.backend=ray alone, got 2 with run.backend=local"),
        (["run.backend=ray", "run.workers=0"], r"run.workers: must be null or a whole number of at least 1, got 0"),
        (["run.shard=0"], r"run.shard: must be at least 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(go, tmp_path, overrides, line):
    with pytest.raises(InputError, match=line):
        go(tmp_path, *SMALL, *overrides)
    assert not list(tmp_path.iterdir())


def test_a_machine_without_ray_is_told_what_to_install(go, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.cluster.terms.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'toastproof\[ray\]'"):
        go(tmp_path, *SMALL, "run.backend=ray")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1"])
def test_an_address_that_is_none_is_told_before_anything_is_done(go, tmp_path, address):
    with pytest.raises(InputError, match=r"run\.address: must be "):
        go(tmp_path / "out", *SMALL, "run.backend=ray", f"run.address='{address}'")
    assert not list((tmp_path / "out").iterdir())


def test_a_cluster_that_is_to_be_found_is_looked_for_before_anything_is_done(go, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # else it is the Ray of another test that is found
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"run\.address: must be .* nothing answers at 127\.0\.0\.1:1"):
        go(tmp_path / "out", *SMALL, "run.backend=ray", "run.address=auto")
    assert not list((tmp_path / "out").iterdir())
