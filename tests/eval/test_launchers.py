"""Sweeps whose jobs run in other processes come to what they come to one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hydra import compose, initialize_config_dir

from eval.cluster.sweep import _Sweep
from eval.cluster.terms import Terms, connected
from eval.errors import InputError
from eval.excuse import Excuse
from eval.records import Run
from eval.schema import CONF
from tests.bytecode import BYTECODE
from tests.eval.swept_jobs import COMMAND, QUICK, RAY, ROOT, env, left_over, networks, run, same_records, told


def test_jobs_on_ray_come_to_what_they_come_to_one_after_the_other(command, tmp_path, monkeypatch):
    monkeypatch.setenv("TOASTPROOF_MARK", f"ours{os.getpid()}")
    sweep = [*QUICK, "model=[softmax]", "threat.eps=8,0.1"]
    here = command([*sweep, "hydra.sweep.dir=here"])
    there = command([*sweep, *RAY, "hydra.sweep.dir=there"])
    assert here.code == there.code == 2
    refusal = next(line for line in here.err.splitlines() if "write 8/255" in line)
    assert f"[0] {refusal}" in there.err.splitlines()
    assert there.out.count("Report: ") == here.out.count("Report: ") == 2
    numbered = [line for line in there.out.splitlines() if line.startswith("[1] ")]
    plain = {line for line in here.out.splitlines() if line.strip()}
    assert {line.removeprefix("[1] ") for line in numbered if "│" in line} == {line for line in plain if "│" in line}
    assert told(tmp_path / "there") == told(tmp_path / "here")
    assert told(tmp_path / "there")["status"] == ["refused", "complete"]
    same_records(tmp_path / "here" / "1", tmp_path / "there" / "1")
    assert (tmp_path / "there" / "1" / "report.html").exists()
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("here", "there")]
    assert names[0] == names[1]
    assert len(left_over(f"TOASTPROOF_MARK=ours{os.getpid()}")) == 0


@pytest.mark.slow
def test_a_job_whose_gpu_ray_does_not_give_is_refused_alone(command, tmp_path, monkeypatch):
    hand_out = _Sweep._hand_out

    def shared(self, job):
        (self.said / ".nfs000017").touch()  # as a file system that nodes share leaves them
        return hand_out(self, job)

    monkeypatch.setattr(_Sweep, "_hand_out", shared)
    done = command([*QUICK, *RAY, "model=[softmax]", "device=cuda:1,cpu", "hydra.sweep.dir=out"])
    assert done.code == 2
    assert "toastproof: job 0: device: must be auto, cpu or cuda where Ray says which GPU" in done.err
    assert told(tmp_path / "out")["status"] == ["refused", "complete"]


def test_the_file_of_the_launcher_says_its_defaults():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = compose("config", ["hydra/launcher=ray"], return_hydra_config=True).hydra.launcher
    fields = {key: launcher[key] for key in launcher if key != "_target_"}
    assert Terms(**fields) == Terms()
    assert set(fields) == set(Terms.__dataclass_fields__) - {"where"}
    assert launcher["_target_"] == "hydra_plugins.toastproof_ray.RayLauncher"


def test_without_ray_the_launcher_says_what_to_install(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command([*QUICK, *RAY, "hydra.sweep.dir=out"])
    assert done.code == 2
    assert done.err == (
        "toastproof: hydra.launcher: must have the package ray, which is not installed; pip install 'toastproof[ray]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_the_module_that_hydra_imports_at_each_start_imports_nothing_heavy():
    code = (
        "import hydra.plugins.launcher, sys; before = set(sys.modules); import hydra_plugins.toastproof_ray;"
        "print(*sorted(set(sys.modules) - before))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "eval" / "plugin")])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path, **BYTECODE}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"hydra_plugins", "hydra_plugins.toastproof_ray"}


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"cpus": 0}, "cpus: must be a whole number of at least 1, or between 0 and 1, got 0"),
        ({"cpus": 1.5}, "cpus: must be"),
        ({"cpus": "two"}, "cpus: must be"),
        ({"gpus": -1}, "gpus: must be auto, a whole number, or between 0 and 1, got -1"),
        ({"gpus": "all"}, "gpus: must be"),
        ({"workers": 0}, "workers: must be null or a whole number of at least 1, got 0"),
        ({"workers": True}, "workers: must be"),
        ({"retries": -1}, "retries: must be a whole number of at least 0, got -1"),
        ({"retries": 0.5}, "retries: must be"),
        ({"address": None}, "address: must be local, auto or host:port, got None"),
    ],
)
def test_terms_that_ray_would_not_keep_are_refused(terms, says):
    with pytest.raises(InputError) as failure:
        Terms(**terms)
    assert str(failure.value).startswith(f"hydra.launcher.{says}")


def test_parts_and_whole_numbers_are_terms():
    assert Terms(cpus=0.25, gpus=0.5, workers=3, retries=0, address="auto").gpus_of("cpu") == 0.5
    assert Terms(cpus=4, gpus=2.0).gpus_of("auto") == 2


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "hydra.launcher.address: must be that of a Ray that runs, nothing answers at 127.0.0.1:1"),
        ("somewhere", "hydra.launcher.address: must be local, auto or host:port, got somewhere"),
    ],
)
def test_an_address_where_nothing_is_is_told_at_once(address, says):
    begun = time.perf_counter()
    with pytest.raises(InputError) as failure, connected(Terms(address=address)):
        pass
    assert str(failure.value).startswith(says)
    assert time.perf_counter() - begun < 15  # 10 s are what it waits for an answer


def test_where_no_ray_is_found_it_says_how_to_begin_one(monkeypatch):
    def init(**keywords):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InputError) as failure, connected(Terms(address="auto")):
        pass
    assert str(failure.value) == (
        "hydra.launcher.address: must be that of a Ray that runs, none was found from this machine; "
        "begin one with ray start --head, or write its host:port"
    )


def test_a_job_that_is_too_large_for_the_machine_is_refused_before_ray_is_begun(command, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.cluster.sweep.launch", None)
    many = (os.cpu_count() or 1) + 1
    done = command([*QUICK, "hydra/launcher=ray", f"hydra.launcher.cpus={many}", "seed=0,1", "hydra.sweep.dir=a/out"])
    assert done.code == 2
    assert (
        done.err == f"toastproof: hydra.launcher.cpus: must be at most {many - 1}, what this machine has, got {many}\n"
    )
    assert not (tmp_path / "a").exists()


def test_a_job_that_is_too_large_for_what_ray_finds_leaves_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4096)  # of which a container may have two
    monkeypatch.setattr("eval.cluster.sweep.connected", nothing)
    monkeypatch.setattr("eval.cluster.terms._has", lambda name: 2.0 if name == "CPU" else 0.0)
    done = command([*QUICK, "hydra/launcher=ray", "hydra.launcher.cpus=4096", "seed=0,1", "hydra.sweep.dir=a/out"])
    assert done.code == 2
    assert done.err == "toastproof: hydra.launcher.cpus: must be at most 2, what this machine has, got 4096\n"
    assert not (tmp_path / "a").exists()


class nothing:  # noqa: N801 - stands for a function
    def __init__(self, terms: Terms, **options: object) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


@pytest.mark.slow
def test_a_job_whose_worker_was_killed_is_begun_again_and_given_up_in_the_end(command, tmp_path):
    sweep = networks(tmp_path, "always", "good", "once")
    one_retry = ["hydra.launcher.retries=1", "hydra.launcher.workers=1"]
    done = command([*sweep, *RAY, *one_retry, "hydra.sweep.dir=out"])
    assert done.code == 1  # no input was refused
    assert "[2] its last words" in done.out.splitlines()
    died = [line for line in done.err.splitlines() if "its worker died" in line]
    assert [line.split(": ")[1] for line in died] == ["job 0", "job 0", "job 2"]
    assert died[0].endswith("; begun again, 1 of 1")
    assert died[1].endswith(" (2 times; hydra.launcher.retries=1)")
    found = told(tmp_path / "out")
    assert found["status"] == ["crashed", "complete", "complete"]
    assert found["error"][0] in died[1]
    excuse = Excuse.read(tmp_path / "out" / "0")
    assert excuse is not None
    assert "model.path=nets.py\\:always" in excuse.overrides


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray", "joblib", "submitit_local"])
def test_a_failed_job_gives_its_exit_status_from_any_process(tmp_path, checkpoints, launcher):
    """In processes of their own: the launchers' libraries leave threads and semaphores behind."""
    for name in ("basic", launcher):
        sweep = [*networks(tmp_path, "good", "crashing"), f"hydra/launcher={name}", f"hydra.sweep.dir={name}"]
        sweep += ["hydra.launcher.n_jobs=2"] if name == "joblib" else []  # one alone is none but the launching process
        code, err = run(sweep, tmp_path, checkpoints)
        assert code == 1, err
    assert told(tmp_path / launcher) == told(tmp_path / "basic")
    assert told(tmp_path / launcher)["status"] == ["complete", "failed"]
    same_records(tmp_path / launcher / "0", tmp_path / "basic" / "0")
    assert (tmp_path / launcher / "1" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_refused_job_is_listed_with_other_launchers_too(tmp_path, checkpoints, launcher):
    sweep = [*QUICK, "model=[softmax]", "threat.eps=8,0.1", f"hydra/launcher={launcher}", "hydra.sweep.dir=out"]
    code, err = run(sweep, tmp_path, checkpoints)
    assert code == 2, err
    assert told(tmp_path / "out")["status"] == ["refused", "complete"]
    assert (tmp_path / "out" / "1" / "report.html").exists()


@pytest.mark.slow
def test_an_interrupt_ends_jobs_and_ray_and_says_how_to_go_on(tmp_path, checkpoints):
    mark = f"ours{os.getpid()}"
    sweep = [*networks(tmp_path, "good", "slow"), *RAY, "hydra.launcher.workers=1", "attack=[fgsm,pgd]"]
    sweep += ["attack.pgd.steps=1000", "debug.attack={}", "hydra.sweep.dir=out"]
    started = subprocess.Popen(
        [*COMMAND, *sweep],
        cwd=tmp_path,
        env=env(checkpoints, TOASTPROOF_MARK=mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    for line in started.stdout:
        if line.startswith("[1] ") and "40 test images" in line:
            break
    begun = time.perf_counter()
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert time.perf_counter() - begun < 30  # 6 s on an idle machine
    said = [line for line in err.splitlines() if line.startswith("toastproof: interrupted")]
    assert len(said) == 1, err
    assert "dir=out goes on" in said[0]
    assert Run.read(tmp_path / "out" / "0").status == "complete"
    assert (tmp_path / "out" / "report.html").exists()
    assert not list((tmp_path / "out").glob(".said*"))
    time.sleep(2)
    assert left_over(f"TOASTPROOF_MARK={mark}") == []


@pytest.mark.slow
def test_jobs_run_on_a_cluster_that_is_there_already(command, tmp_path, monkeypatch):
    """Its workers know neither our folder nor our environment; it goes on when the sweep has ended."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        monkeypatch.setenv("OUR_TITLE", "Told at home")
        monkeypatch.setenv("OUR_SECRET", "sesame-open")
        sweep = [*QUICK, "model=[softmax]", "threat.eps=0.1,0.2", "title='${oc.env:OUR_TITLE} sesame-open'"]
        at = ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]
        for folder in ("out", "again"):
            done = command([*sweep, *at, f"hydra.sweep.dir={folder}"])
            assert done.code == 0, done.err
    finally:
        cluster.shutdown()
    for number in ("0", "1"):
        header = Run.read(tmp_path / "again" / number)
        assert header.status == "complete"
        assert header.title == "${oc.env:OUR_TITLE} ${oc.env:OUR_SECRET}"
