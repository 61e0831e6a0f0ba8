"""Memory on workers on Ray: what becomes of it where it runs out, and how much each of them plans for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eval import forms as formed
from eval.batches import Batch
from eval.cluster import parcel as parcels
from eval.cluster.parcel import Parcel, Workshop, serve
from eval.config import read
from eval.errors import InputError
from eval.records import Run
from models.classifier import Classifier

ray = pytest.importorskip("ray")
from eval.cluster.workers import here  # noqa: E402 - it needs ray

ROOT = Path(__file__).parents[2]
FEW = ("debug=quick", "model=[softmax]", "attack=[fgsm]", "transfer=false", "run.shard=16")


LITTLE = """
import os
from pathlib import Path
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        if os.getpid() != {here} and x.requires_grad and len(x) > 32:
            with Path("tries").open("a") as file:
                file.write(f"{{len(x)}}\\n")
            raise MemoryError("no room")
        return super().forward(x)

def net():
    return Net(nn.Flatten(), nn.Linear(64, 10))
"""
"""A network that takes at most 32 images at once in a worker, as many as it is tried on."""


def test_memory_that_runs_out_on_a_worker_is_told_and_kept(go, two, tmp_path, monkeypatch, caplog):
    (tmp_path / "nets.py").write_text(LITTLE.format(here=os.getpid()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "eval.header.describe", lambda device: "cpu, 7 threads, x86_64"
    )  # the worker has another number
    few = ("debug=quick", "debug.samples=180", "model=factory", "model.path=nets.py:net", "model.factory.train=true")
    few += ("attack=[pgd]", "run.shard=60", "batch_size=64", "run.backend=ray", "run.workers=1")
    with caplog.at_level(logging.WARNING):
        about = go(tmp_path / "out", *few)
    assert about.status == "complete"
    for header in (about, Run.read(tmp_path / "out")):
        (model,) = header.models
        assert model["batch_size"] <= 32
        assert model["batch_size_first"] == 64
    assert len([r for r in caplog.records if "memory ran out on a worker" in r.getMessage()]) == 1
    assert len(Path("tries").read_text().split()) == 1
    for path in (tmp_path / "out" / "parts").iterdir():
        path.unlink()
    monkeypatch.setattr("eval.header.describe", lambda device: "NVIDIA A100 (cuda)")  # given on another machine
    assert go(tmp_path / "out", *few).models == about.models
    assert len(Path("tries").read_text().split()) == 1  # it began with what had been left


HOG = """
import os
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        if os.getppid() != {here} and x.requires_grad and len(x) > 32:
            with open("tries", "a") as file:
                file.write("once ")
            self.much = bytes(range(256)) * (3 << 22)
        return super().forward(x)

def net():
    return Net(nn.Flatten(), nn.Linear(64, 10))
"""
"""A network that takes 3 GiB in a worker."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Ray watches the memory on Linux alone")
def test_a_part_that_rays_memory_monitor_ends_is_given_up(tmp_path):
    (tmp_path / "nets.py").write_text(HOG.format(here=os.getpid()))
    said = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, left = (int(said[key].split()[0]) / (1 << 20) for key in ("MemTotal", "MemAvailable"))
    if left < 6:
        pytest.skip("needs 6 GiB of free memory")
    monitor = {
        "RAY_memory_usage_threshold": f"{(total - left + 2) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    places = {"PYTHONPATH": str(ROOT), "TOASTPROOF_CHECKPOINTS": str(tmp_path / "checkpoints")}
    command = [
        sys.executable, "-m", "eval", "debug=quick", "debug.samples=60", "model=factory", "model.path=nets.py:net",
        "model.factory.train=true", "attack=[fgsm]", "run.backend=ray", "run.workers=1", "run.retries=1", "run.dir=out",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **monitor, **places}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "tries").read_text() == "once once "
    assert (
        "attack.fgsm on net crashed: its worker died 2 times (OutOfMemoryError)" in Run.read(tmp_path / "out").warnings
    )


def test_a_worker_begins_with_what_memory_left_elsewhere(monkeypatch):
    class Done:
        def __init__(self, parcel):
            self.batches = {"net": Batch("net", 64, measured=True)}

        def make(self, part, files):
            return self.batches["net"].about()

    monkeypatch.setattr(parcels, "Workshop", Done)
    monkeypatch.setattr(parcels, "_workshops", {})
    for told, begins in [
        ((256, 256), (64, 64)),
        ((256, 128), (64, 64)),
        ((256, 16), (16, 256)),
        ((256, 32), (16, 256)),
    ]:
        left = {"net": {"batch_size_first": told[0], "batch_size": told[1]}}
        expected = {"batch_size": begins[0], "batch_size_first": begins[1]}
        assert serve("run", lambda: None, "part", {}, left) == expected


def test_a_batch_that_follows_gives_back_what_larger_ones_held(monkeypatch):
    released: list[int] = []
    monkeypatch.setattr("eval.batches.forget", lambda: released.append(1))
    batch = Batch("net", 8)
    assert not batch.follow({"batch_size_first": 8, "batch_size": 8})
    assert batch.follow({"batch_size_first": 8, "batch_size": 4})
    assert not batch.follow({"batch_size_first": 8, "batch_size": 4})
    assert released == [1]


def test_workers_of_a_node_share_its_memory(two, composed, monkeypatch):
    plan = read(composed(*FEW, "batch_size=auto", "run.backend=ray"))
    parcel = Parcel(plan, None, None, {}, {}, ".")  # type: ignore[arg-type]
    assert here(lambda: parcel, 0.0).sharers == {"cpu": 2, "cuda": 2}
    one = replace(parcel, plan=read(composed(*FEW, "run.backend=ray", "run.workers=1")))
    assert here(lambda: one, 0.0).sharers == {"cpu": 1, "cuda": 1}
    nodes = [{"NodeID": ray.get_runtime_context().get_node_id(), "Resources": {"CPU": 16.0, "GPU": 2.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert here(lambda: parcel, 0.5).sharers == {"cpu": 4, "cuda": 2}
    assert here(lambda: parcel, 1).sharers == {"cpu": 2, "cuda": 1}

    def entered(plan: Any, *_: Any) -> None:
        raise InputError(f"sharers: {plan.sharers}")

    monkeypatch.setattr(parcels, "parts", lambda *_: ([], []))
    monkeypatch.setattr(parcels, "enter", entered)
    data = type("Data", (), {"test": None})()
    with pytest.raises(InputError, match="sharers: 16"):
        Workshop(here(lambda: replace(parcel, data=data), 0.0))


@pytest.mark.parametrize(("sharers", "size"), [(1, 64), (2, 32), (8, 8)])
def test_a_batch_fits_the_part_of_the_memory_that_a_process_has(composed, monkeypatch, sharers, size):
    plan = replace(read(composed(*FEW, "batch_size=auto")), sharers=sharers)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=10)
    needed = formed.Footprint(0.0, 0.0, 64)
    monkeypatch.setattr(formed, "_needed", lambda *_: needed)
    monkeypatch.setattr(formed, "free", lambda device: 2 * 64 * 64 * 4 * 64)
    found = formed.forms(plan, classifier, torch.rand(4, 1, 8, 8), 640, torch.device("cpu"))
    assert found.batch_size == size
