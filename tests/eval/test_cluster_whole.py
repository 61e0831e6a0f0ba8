"""Runs that start a Ray of their own, or find a cluster: what is asked is what they get, and whoever dies, they end.

No other Ray may be connected here, as one is in `test_cluster`: a run would use that one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from eval.records import Run, read_records
from tests.eval.ray_runs import SLOW, SMALL, listening, parts, when, workers
from tests.eval.slow_runs import records
from tests.eval.swept_jobs import env, left_over

ray = pytest.importorskip("ray")
from eval.cluster.terms import Terms, connected  # noqa: E402 - it needs ray

pytestmark = pytest.mark.slow
PROGRAM = """
import sys
from pathlib import Path
from eval.__main__ import main
from eval.cluster.workers import Cluster
begin, log = Cluster.begin, Path(sys.argv.pop(1))
def noted(self, job):
    with log.open("a") as file:
        file.write(f"{job.part}\\n")
    begin(self, job)
Cluster.begin = noted
main()
"""
"""The command, which notes the parts that are handed out: those that workers begin are among them."""


@pytest.fixture(autouse=True)
def mark(monkeypatch, tmp_path) -> str:
    """What is in the environment of all processes that a test starts; none of them is there yet."""
    assert not ray.is_initialized()
    monkeypatch.setenv("TOASTPROOF_MARK", str(tmp_path))
    return f"TOASTPROOF_MARK={tmp_path}"


def test_four_workers_make_no_difference(go, tmp_path):
    go(tmp_path / "alone", *SMALL)
    console = listening()
    go(tmp_path / "ray", *SMALL, "run.backend=ray", "run.workers=4", "run.shard=3", console=console)
    assert "Ray: 4 workers on this machine" in console.export_text()
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))


@pytest.mark.parametrize(
    ("number", "code", "many", "more"),
    [
        (signal.SIGINT, 130, "2", 0),
        (signal.SIGTERM, 143, "2", 0),
        (signal.SIGKILL, -9, "2", 0),
        (signal.SIGKILL, -9, "null", 1),
    ],
)
def test_a_signal_to_the_run_leaves_no_worker_behind_and_little_is_repeated(
    tmp_path, checkpoints, mark, number, code, many, more
):
    with connected(Terms()):
        cpus = ray.cluster_resources()["CPU"]
    log, out = tmp_path / "log", tmp_path / "out"
    few = ["run.backend=ray", f"run.workers={many}", f"run.cpus={max(1, int(cpus) // 2)}", "run.dir=out"]
    command = [sys.executable, "-c", PROGRAM, str(log), *SLOW, *few]
    shell = env(checkpoints)
    with subprocess.Popen(
        command, cwd=tmp_path, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        while len(parts(out)) < 4:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(number)
        sent = time.monotonic()
        said = process.communicate()[0].decode()
    assert process.returncode == code, said
    assert time.monotonic() - sent < 60
    assert Run.read(out).status == ("running" if number == signal.SIGKILL else "interrupted")
    left = parts(out)
    before = {name: (out / "parts" / name).stat().st_mtime_ns for name in left}
    until = time.monotonic() + 30
    while (there := still_there(mark, number)) and time.monotonic() < until:
        time.sleep(0.1)
    assert there == []
    again = subprocess.run(command, cwd=tmp_path, env=shell, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in left} == before
    room = re.search(r"Ray: (\d+) worker", again.stdout)
    assert room is not None
    assert int(room[1]) in ((2, 3) if many == "null" else (2,))
    begun = Counter(log.read_text().split())
    assert {f"{part}.parquet" for part in begun} < set(parts(out))
    assert len(begun) == 20
    assert begun.total() - len(begun) <= int(room[1]) + more


def still_there(mark: str, number: signal.Signals) -> list[str]:
    """Processes of a Ray; where nobody could end it, without its agents, which miss it after half a minute or more."""
    agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent") if number == signal.SIGKILL else ()
    return [command for command in left_over(mark) if not command.startswith(agents)]


def test_a_worker_may_die_and_its_part_is_made_by_another(go, tmp_path, mark):
    killed = []

    def kill() -> None:
        killed.append(workers(mark, "softmax")[0])
        os.kill(killed[0], signal.SIGKILL)

    go(tmp_path / "alone", *SLOW)
    killer = when(lambda: len(parts(tmp_path / "ray")) >= 4 and workers(mark, "softmax"), kill)
    about = go(tmp_path / "ray", *SLOW, "run.backend=ray", "run.workers=2")
    killer.join(timeout=1)
    assert killed
    assert about.status == "complete"
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))


def test_a_part_whose_worker_always_dies_is_given_up_and_the_others_are_made(go, tmp_path, mark):
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            for pid in workers(mark, "softmax: pgd"):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    killer = when(lambda: True, kill)
    few = ("debug=quick", "model=[softmax]", "attack=[fgsm,pgd]", "run.backend=ray", "run.workers=1", "run.retries=1")
    try:
        about = go(tmp_path, *few)
    finally:
        stop.set()
        killer.join()
    assert about.status == "failed"
    assert "attack.pgd on softmax crashed: its worker died 2 times" in about.warnings[-1]
    assert set(read_records(tmp_path)["attack"]) == {"none", "fgsm"}
    assert go(tmp_path, *few[:3]).status == "complete"


def test_a_cluster_of_two_nodes_ends_though_one_is_killed_in_the_middle(go, tmp_path):
    from ray.cluster_utils import Cluster as Nodes

    go(tmp_path / "alone", *SLOW)
    console = listening()
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = nodes.add_node(num_cpus=2)
        killer = when(
            lambda: len(parts(tmp_path / "ray")) >= 4, lambda: nodes.remove_node(second, allow_graceful=False)
        )
        about = go(tmp_path / "ray", *SLOW, "run.backend=ray", f"run.address='{nodes.address}'", console=console)
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert "Ray: 3 workers on 2 nodes" in console.export_text()
    assert not killer.is_alive()
    assert about.status == "complete"
    pd.testing.assert_frame_equal(records(tmp_path / "ray"), records(tmp_path / "alone"))
    assert np.isfinite(records(tmp_path / "ray")["rms"]).all()
