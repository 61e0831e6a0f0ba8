"""What is asked of Ray before anything is handed out: what a worker gets, which Ray it is, and how often it retries."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from eval.cluster import terms
from eval.cluster.terms import Terms, places
from eval.config import read
from eval.errors import InputError

ray = pytest.importorskip("ray")
ROOT = Path(__file__).parents[2]
FEW = ("debug=quick", "model=[softmax]", "attack=[fgsm]", "transfer=false", "run.shard=16")


def test_ray_begins_a_part_that_its_memory_monitor_ends_no_more_often_than_it_is_told(monkeypatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **told: asked.append(told))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_task_oom_retries", raising=False)
    with terms.connected(Terms(retries=1)):
        assert "RAY_task_oom_retries" not in os.environ
    assert asked[0]["_system_config"] == {"task_oom_retries": 1}
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with terms.connected(Terms(address, retries=2)):
            assert os.environ.pop("RAY_task_oom_retries") == "2"
    assert "_system_config" not in asked[1]


@pytest.mark.parametrize(("gpus", "refused"), [("auto", True), (1, True), (0.5, True), (0, False)])
def test_one_gpu_among_many_is_refused_where_ray_says_which(composed, gpus, refused):
    overrides = (*FEW, "device=cuda:1", "run.backend=ray", f"run.gpus={gpus}")
    if not refused:
        assert read(composed(*overrides)).device == "cuda:1"
        return
    with pytest.raises(InputError, match=r"device: must be auto, cpu or cuda where Ray says .* got cuda:1"):
        read(composed(*overrides))
    with pytest.raises(InputError, match=r"device: must be auto, cpu or cuda"):
        Terms(gpus=gpus).gpus_of("cuda:1")
    assert read(composed(*FEW, "device=cuda:1")).device == "cuda:1"


@pytest.mark.parametrize(("gpus", "device"), [("auto", "cuda:0"), (1, "cuda:0"), (0.5, "cuda:0"), (2, "cuda:1")])
def test_a_gpu_that_a_worker_sees_may_be_named(composed, monkeypatch, gpus, device):
    monkeypatch.setattr(terms, "_has", lambda name: 4.0)
    assert Terms(gpus=gpus).gpus_of(device) == (1 if gpus == "auto" else gpus)
    assert read(composed(*FEW, f"device={device}", "run.backend=ray", f"run.gpus={gpus}")).device == device


def test_places_are_those_for_which_there_is_all():
    assert places({"CPU": 8.0, "GPU": 2.0}, 1, 0.5) == 4
    assert places({"CPU": 3.0, "GPU": 2.0}, 2, 0.5) == 1
    assert places({"CPU": 3.0}, 1, 1) == places({}, 1, 0) == 0


def test_a_run_on_ray_within_a_task_of_ray_is_refused(two):
    root = str(ROOT)

    def job() -> str:
        import sys

        sys.path.insert(0, root)
        from eval.cluster.terms import Terms, reachable
        from eval.errors import InputError

        try:
            reachable(Terms(where="run"))
        except InputError as error:
            return str(error)
        return ""

    assert ray.get(ray.remote(num_cpus=1)(job).remote()).startswith("run.backend: must be local in a task of Ray")
    terms.reachable(Terms(where="run"))


def test_a_process_that_has_another_ray_is_refused(two):
    own = ray.get_runtime_context().gcs_address
    port = own.rpartition(":")[2]
    for address in (own, "local", "auto"):
        terms.reachable(Terms(address, where="run"))
    assert not terms._differ(own, f"127.0.0.1:{port}")
    assert terms._differ("192.0.2.1:5", "192.0.2.2:5")
    assert terms._differ(own, f"127.0.0.1:{int(port) + 1}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"run\.address: must be {own}, the Ray that this process has already"):
            terms.reachable(Terms(address, where="run"))


@pytest.mark.parametrize(("key", "many"), [("cpus", (os.cpu_count() or 1) + 1), ("gpus", 1), ("gpus", 0.5)])
def test_a_worker_that_this_machine_has_no_room_for_is_refused_before_anything(go, tmp_path, monkeypatch, key, many):
    monkeypatch.setattr("eval.run.load", None)  # nothing is loaded
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    has = 0 if key == "gpus" else many - 1
    with pytest.raises(InputError, match=rf"^run\.{key}: must be at most {has}, what this machine has, got {many}$"):
        go(tmp_path, *FEW, "run.backend=ray", f"run.{key}={many}")
    assert not list(tmp_path.iterdir())


def test_room_is_asked_for_where_a_ray_is_begun_alone(monkeypatch):
    for asked in (Terms(gpus=1), Terms(gpus="auto", cpus=os.cpu_count() or 1), Terms("192.0.2.1:5", cpus=4096, gpus=8)):
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        terms.room_here(asked, gpus=1)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)  # which knows for itself
    terms.room_here(Terms(cpus=4096), gpus=0)


def test_one_worker_must_have_its_processors_and_all_together_need_not(monkeypatch):
    many = (os.cpu_count() or 1) + 1
    monkeypatch.setattr(terms, "_has", lambda name: float(8 * many))  # as a Ray has that was told how many
    with pytest.raises(InputError, match=rf"run\.cpus: must be at most {many - 1}, what this machine has, got {many}"):
        terms.room(Terms(workers=1, cpus=many, where="run"), 0.0)
    terms.room(Terms(workers=4 * many), 0.0)
    terms.room(Terms("192.0.2.1:5", cpus=many), 0.0)
