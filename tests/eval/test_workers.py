"""What workers on Ray tell the run that leads them, and what it asks of Ray: all but what it takes to start one."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eval.cluster import parcel as parcels
from eval.cluster.parcel import serve
from eval.cluster.terms import Terms
from eval.device import describe, kinds
from eval.errors import InputError
from eval.make import Made
from eval.records import Run
from eval.workload import Workload

ray = pytest.importorskip("ray")
from eval.cluster import terms, workers  # noqa: E402
from eval.cluster.workers import Cluster  # noqa: E402 - it needs ray

FEW = ("debug=quick", "model=[softmax]", "attack=[fgsm]", "transfer=false", "run.shard=16")


def test_a_header_names_the_devices_of_workers_and_no_empty_one(go, two, tmp_path, monkeypatch):
    made, met = Cluster._made, []

    def given_up(self: Any, reference: Any, part: str) -> Made:
        met.append(part)
        return Made(["its worker died once (WorkerCrashedError)"], "") if len(met) == 1 else made(self, reference, part)

    monkeypatch.setattr(Cluster, "_made", given_up)
    about = go(tmp_path / "out", *FEW, "run.backend=ray")
    assert about.status == "failed"
    assert re.fullmatch(r"cpu, (1 thread|\d+ threads), \w+", about.device)
    monkeypatch.setattr("eval.header.describe", lambda device: "a GPU that made no part")
    assert go(tmp_path / "other", *FEW, "run.backend=ray").device == about.device
    met.clear()
    monkeypatch.setattr("eval.header.describe", lambda device: "cpu, 7 threads, x86_64")
    assert go(tmp_path / "few", *FEW[:-1], "run.backend=ray").device == "cpu, 7 threads, x86_64"  # no part was made


def test_a_header_names_the_makers_of_all_sessions(go, two, tmp_path, monkeypatch):
    made, met = Cluster._made, []

    def first(self: Any, reference: Any, part: str) -> Made:
        met.append(part)
        if len(met) == 2:
            raise KeyboardInterrupt
        return replace(made(self, reference, part), device="NVIDIA A100 (cuda:0)")

    few = (*FEW, "run.backend=ray", "run.workers=1")  # which is handed one part at a time
    with monkeypatch.context() as patched:
        patched.setattr(Cluster, "_made", first)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, *few)
    before = Run.read(tmp_path)
    assert (before.status, before.device) == ("interrupted", "NVIDIA A100 (cuda:0)")
    after = go(tmp_path, *few).device
    assert re.fullmatch(r"NVIDIA A100 \(cuda:0\); cpu, (1 thread|\d+ threads), \w+", after)
    monkeypatch.setattr("eval.header.describe", lambda device: "a GPU that made no part")
    assert go(tmp_path, *few).device == Run.read(tmp_path).device == after  # nothing was left to make


def test_parts_that_workers_make_are_shared_whatever_their_number_of_threads(go, two, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.header.describe", lambda device: "cpu, 7 threads, x86_64")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    place = f"paths.parts={tmp_path / 'shared'}"
    about = go(tmp_path / "ray", *FEW, place, "run.backend=ray")
    assert about.taken == 0
    assert len(list((tmp_path / "shared").rglob("*.zip"))) > 1
    assert go(tmp_path / "alone", *FEW, place).taken == len(list((tmp_path / "shared").rglob("*.zip")))


def test_what_another_kind_of_device_made_is_kept_under_its_name(go, two, tmp_path, monkeypatch):
    made = Cluster._made
    monkeypatch.setattr(Cluster, "_made", lambda *task: replace(made(*task), device="NVIDIA A100 (cuda:0)"))
    place = f"paths.parts={tmp_path / 'shared'}"
    assert go(tmp_path / "ray", *FEW, place, "run.backend=ray").device == "NVIDIA A100 (cuda:0)"
    assert list((tmp_path / "shared").rglob("*.zip"))
    assert go(tmp_path / "alone", *FEW, place).taken == 0
    monkeypatch.setattr("eval.header.describe", lambda device: "NVIDIA A100 (cuda)")
    assert go(tmp_path / "gpu", *FEW, place).taken > 1


@pytest.mark.parametrize(("threads", "said"), [(1, "cpu, 1 thread, "), (2, "cpu, 2 threads, ")])
def test_a_processor_has_one_thread_or_several(monkeypatch, threads, said):
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert describe(torch.device("cpu")).startswith(said)


def test_devices_are_alike_whatever_their_threads_and_numbers():
    assert kinds("cpu, 1 thread, x86_64") == kinds("cpu, 16 threads, x86_64") == {"cpu, x86_64"}
    assert kinds("cpu, 1 thread, arm64") != kinds("cpu, 1 thread, x86_64")
    assert kinds("NVIDIA A100 (cuda)") == kinds("NVIDIA A100 (cuda:3)") == {"NVIDIA A100"}
    assert kinds("NVIDIA A100 (cuda:0); cpu, 2 threads, x86_64") == {"NVIDIA A100", "cpu, x86_64"}


@pytest.mark.parametrize(
    ("older", "what"),
    [
        ("CODE = 'older'", "is another"),
        ("", "cannot be imported (cannot import name 'CODE' from 'eval.shared'"),
        (None, "cannot be imported (No module named 'eval.shared')"),
    ],
)
def test_a_worker_with_another_source_says_so_before_it_calls_any_of_it(tmp_path, older, what):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").touch()
    if older is not None:
        (tmp_path / "eval" / "shared.py").write_text(older)
    (tmp_path / "task").write_bytes(ray.cloudpickle.dumps(workers._task(str(tmp_path), "ours", 0.0)))
    calls = "import pathlib, pickle; print(*pickle.loads(pathlib.Path('task').read_bytes())('run', [], 'part', {}, {}))"
    done = subprocess.run(
        [sys.executable, "-c", calls], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith(f"{platform.node()} {what}"), done.stderr
    assert done.stdout.count("\n") == 1


def test_a_run_whose_workers_have_another_source_ends_with_one_line(go, two, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CODE", "another")
    with pytest.raises(InputError, match=r"^on .*: run\.backend: a worker must have the source") as told:
        go(tmp_path, *FEW, "run.backend=ray")
    assert "\n" not in str(told.value)
    assert Run.read(tmp_path).status == "failed"


@pytest.mark.parametrize("gone", ["place", "all"])
def test_a_folder_that_was_cleaned_away_is_not_taken_for_a_file_of_the_configuration(tmp_path, monkeypatch, gone):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    class Cleaned:
        def __init__(self, parcel):
            if gone == "all":
                shutil.rmtree(tmp_path / "scratch")

        def make(self, part, files):
            with parcels._scratch() as place:
                shutil.rmtree(place)
                (place / "parts").write_bytes(b"")

    monkeypatch.setattr(parcels, "Workshop", Cleaned)
    monkeypatch.setattr(parcels, "_workshops", {})
    with pytest.raises(OSError, match=re.escape(f"{tmp_path / 'scratch'}")):
        serve("run", lambda: None, "part", {})


def test_a_file_of_the_configuration_that_lies_among_temporary_ones_is_refused(tmp_path, monkeypatch):
    class Missing:
        def __init__(self, parcel):
            with parcels._scratch():
                (tmp_path / "nets.py").read_text()

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(parcels, "Workshop", Missing)
    assert "nets.py" in serve("run", lambda: None, "part", {}).refused


@pytest.mark.parametrize(
    ("asked", "gpus", "line"),
    [
        (Terms("a:1", cpus=16), 0.0, "no node has room for a worker of 16 CPU, the largest has 8 CPU; waits for it to"),
        (Terms("a:1"), 4.0, "no node has room for a worker of 1 CPU and 4 GPU, the largest has 2 CPU and 1 GPU; waits"),
        (Terms("a:1", cpus=8), 0.0, "1 worker on 1 node"),
        (Terms("a:1"), 0.0, "10 workers on 2 nodes"),
        (Terms(), 0.0, "10 workers on this machine"),
    ],
)
def test_a_cluster_says_what_it_has_and_what_it_waits_for(asked, gpus, line):
    crew = Cluster.__new__(Cluster)
    nodes = [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}]
    found = [{"Alive": True, "Resources": has} for has in nodes] + [{"Alive": False, "Resources": {"CPU": 64.0}}]
    crew._ray = type("Ray", (), {"nodes": staticmethod(lambda: found)})
    crew._terms, crew._gpus = asked, gpus
    assert crew.about.startswith(f"Ray: {line}")
    found.clear()
    assert crew.about.endswith("waits for it to grow")


@pytest.mark.parametrize(("many", "says"), [(1, "1 part on Ray"), (2, "2 parts on Ray")])
def test_the_bar_counts_the_parts_that_are_handed_out(monkeypatch, tmp_path, many, says):
    said: list[str] = []
    monkeypatch.setattr(workers, "Cluster", lambda *told: nullcontext(SimpleNamespace(about="")))
    plan = SimpleNamespace(run=SimpleNamespace(backend="ray", terms=Terms), device="cpu")
    console = SimpleNamespace(print=lambda *_, **__: None)
    work: Any = SimpleNamespace(plan=plan, entrants=[], parcel=lambda: None, folder=tmp_path, console=console)
    bar: Any = SimpleNamespace(say=said.append, advance=None)
    todo: Any = [None] * many
    with Workload._crew(work, todo, bar):
        assert said == [says]


def test_a_ray_that_has_no_room_is_ended(two, monkeypatch, tmp_path):
    said: list[str] = []

    @contextmanager
    def connected(*_: Any, **__: Any) -> Iterator[None]:
        said.append("begun")
        try:
            yield
        finally:
            said.append("left")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(workers, "connected", connected)
    many = (os.cpu_count() or 1) + 1
    asked = Terms(workers=1, cpus=many, where="run")
    monkeypatch.setattr(terms, "_has", lambda name: float(many))  # as a Ray has that was told how many
    crew = Cluster(asked, "cpu", None, tmp_path, print, {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"run\.cpus: must be at most {many - 1}, .* got {many}") as told:
        crew.__enter__()
    assert said == ["begun", "left"]
    assert told.tb is not None  # else it might be the end of the objects that has ended it
