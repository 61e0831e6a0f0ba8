from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval.records import Run
from tests.bytecode import BYTECODE

ROOT = Path(__file__).parents[2]
SMALL = ["debug=quick", "model=[softmax]", "attack=[fgsm]"]


def test_a_run_ends_with_a_table_and_the_path_of_its_report(command, tmp_path):
    done = command([*SMALL, "hydra.run.dir=out"])
    assert done.code == 0, done.err
    assert "report.html" in done.out
    assert {"report.html", "summary.csv", "transfer.csv", "run.json", "parts"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_a_sweep_gets_one_combined_report(command, tmp_path):
    done = command(["-m", *SMALL, "threat.eps=0.05,0.2", "hydra.sweep.dir=out"])
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "sweep.csv").exists()
    assert (tmp_path / "out" / "report.html").exists()
    assert {p.name for p in (tmp_path / "out").iterdir() if p.is_dir()} >= {"0", "1"}


def test_a_job_of_a_sweep_that_is_refused_does_not_end_the_sweep(command, tmp_path):
    done = command(["-m", *SMALL, "threat.eps=8,0.1", "hydra.sweep.dir=out"])
    assert done.code == 2
    assert "write 8/255" in (tmp_path / "out" / "0" / "error.json").read_text()
    table = pd.read_csv(tmp_path / "out" / "sweep.csv", keep_default_na=False)
    assert list(table["status"])[:2] == ["refused", "complete"]
    assert "write 8/255" in table["error"][0]
    assert list(table["overrides"])[:2] == ["threat.eps=8", "threat.eps=0.1"]
    assert (tmp_path / "out" / "1" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model=transformer"], "transformer"),
        (["attack.pgd.step=3"], "attack.pgd.step"),
        (["attack.pgd.steps=ten"], "attack.pgd.steps"),
        (["threat.eps=8"], "8/255"),
        (["attack=[pgd]", "threat.norm=l0", "threat.eps=3", "threat.curve=[]"], "attack.pgd: supports the norm"),
        (["threat.norm=l2"], "threat.norm: must come with an eps of its own, got l2 with eps=0.1"),
        (["device=cuda:77"], "device: this machine has no cuda:77"),
        (["goal=toaster"], "goal: must be untargeted, "),
        (["data=images", "data.root=nowhere"], "nowhere"),
        (["data=arrays", "data.test=floats.npz"], "255"),
        (["data=arrays", "data.test=labels.npz", "data.train=labels.npz"], "labels"),
        (["model=factory", "model.path=nets.py:image"], "(B, K)"),
        (["model=factory", "model.path=nets.py:nan"], "nan"),
        (["model=factory", "model.path=nets.py:absent"], "absent"),
        (["model=factory", "model.path=nets.py:good", "model.weights=cut.safetensors"], "cut"),
        (["model=factory", "model.path=nets.py:good", "model.weights=other.safetensors"], "other.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(command, tmp_path, arguments, says):
    bad_files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = command(["debug=quick", "hydra.run.dir=out", *arguments])
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert [p for p in sorted(tmp_path.rglob("*")) if "__pycache__" not in p.parts] == before


def bad_files(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8)), np.arange(60) % 10
    np.savez(folder / "floats.npz", x=x.astype(np.float32), y=y)
    np.savez(folder / "labels.npz", x=x.astype(np.uint8), y=np.where(y == 9, -1, y))
    (folder / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def good(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def image(): return nn.Conv2d(1, 10, 3)\n"
        "class Nan(nn.Module):\n    def forward(self, x): return x.flatten(1)[:, :10] * float('nan')\n"
        "def nan(): return Nan()\n"
    )
    save_file({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, folder / "whole.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "whole.safetensors").read_bytes()[:600])
    save_file({"conv.weight": torch.zeros(3, 3)}, folder / "other.safetensors")


def test_a_model_that_fails_late_is_one_line(command, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nclass Late(nn.Module):\n    def forward(self, x):\n"
        "        if len(x) == 40: raise ValueError('only small batches')\n"
        "        return x.flatten(1)[:, :10]\ndef late(): return Late()\n"
    )
    done = command(["debug=quick", "model=factory", "model.path=nets.py:late", "attack=[fgsm]", "hydra.run.dir=a/b"])
    assert done.code == 2
    assert "model late: forward must not fail, got ValueError: only small batches (at nets.py:4)" in done.err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model.path=nets.py:net"], "model.path: is read by model=factory or model=exported alone"),
        (["model=cnn", "model.weights=a.pth"], "model.weights: is read by"),
        (["atack=pgd"], "atack: there is no such key; did you mean attack?"),
        (["attack.pgd.stps=3"], "attack.pgd.stps: there is no such key; did you mean attack.pgd.steps?"),
        (["attack=[pgd,"], "write key=value, and lists in quotes"),
        (["foo"], "write key=value"),
        (["data=images"], "data.root"),
        (["attack=foolbox/nope"], "foolbox/nope"),
        (["attack=lbfgs/quik"], "did you mean lbfgs/quick"),
        (["attack=lbfgs/quick", "attack.lbfgs.steps=5"], "this run's attacks: lbfgs_quick"),
    ],
)
def test_a_slip_on_the_command_line_is_told_with_its_remedy(command, tmp_path, arguments, says):
    done = command(["debug=quick", *arguments])
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "provider=" not in done.err
    assert not (tmp_path / "runs").exists()


def test_version(command):
    from eval import __version__

    assert command(["--version"]).out.strip() == f"toastproof {__version__}"


def test_help_shows_the_keys_of_the_chosen_options(command):
    out = command(["data=images", "attack=foolbox/pgd", "--help"]).out
    assert "skip_broken" in out
    assert "attack.foolbox_pgd" in out
    assert "attack.lbfgs" not in out


def test_an_unwritable_folder_is_one_line(command, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    done = command([*SMALL, "hydra.run.dir=out/run"])
    assert done.code == 2
    assert "out" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_help_lists_groups_and_starts_fast(tmp_path):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "eval", "--help"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **BYTECODE},
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(time.perf_counter() - start)
    for word in ("attack:", "data:", "pgd", "digits", "toastproof-report", "threat:"):
        assert word in done.stdout
    assert min(times) < 1.5  # 0.5 s on an idle machine; importing torch alone takes 2


def test_another_package_called_models_in_the_way_is_told(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "eval.py").write_text("raise SystemExit('the wrong eval')")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from eval.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", **BYTECODE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # ours come first


def test_an_interrupted_run_tells_what_it_has_and_goes_on_where_it_stopped(command, tmp_path, monkeypatch):
    import eval.make

    done, real = [], eval.make.craft

    def interrupted(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given)
        return real(*given)

    arguments = ["debug=quick", "model=[softmax]", "attack=[fgsm,pgd,noise_uniform]", "run.dir=out"]
    monkeypatch.setattr(eval.make, "craft", interrupted)
    stopped = command(arguments)
    assert stopped.code == 130
    assert "the same command with run.dir=out goes on" in stopped.err
    about = Run.read(tmp_path / "out")
    assert about.status == "interrupted"
    assert about.finished
    assert about.wall_seconds["attacks"] > 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "This run was interrupted." in page
    assert "3 of its 4 parts are on disk" in page  # those of the unperturbed samples, fgsm and pgd
    assert ">pgd<" in page
    again = []
    monkeypatch.setattr(eval.make, "craft", lambda *given: again.append(given[1]) or real(*given))
    assert command(arguments).code == 0
    assert [unit.attack_name for unit in again] == ["noise_uniform"]
    assert Run.read(tmp_path / "out").status == "complete"
    assert "interrupted" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "pages"), [([], 1), (["-m", "seed=0,1"], 3)])
def test_an_interrupt_names_the_folder_to_go_on_in(command, tmp_path, monkeypatch, arguments, pages):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.make.craft", interrupted)
    stopped = command([*arguments, *SMALL])
    assert stopped.code == 130
    assert len(stopped.err.strip().splitlines()) == 1
    said = next(word for word in stopped.err.split() if word.startswith("run.dir=runs/"))
    folder = tmp_path / said.partition("=")[2]
    assert (folder / "report.html").exists()  # on what there is
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    again = command([*arguments, *SMALL, said])
    assert again.code == 0
    assert len(list((tmp_path / "runs").rglob("report.html"))) == pages
    assert "interrupted" not in (folder / "report.html").read_text(encoding="utf-8")


def test_the_system_may_end_a_run_as_a_user_may(command, tmp_path, monkeypatch):
    import os
    import signal

    monkeypatch.setattr("eval.make.craft", lambda *given: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        stopped = command([*SMALL, "run.dir=out"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.code == 128 + signal.SIGTERM
    assert Run.read(tmp_path / "out").status == "interrupted"


def test_an_interrupt_before_the_first_record_leaves_nothing(command, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.run.enter", interrupted)
    stopped = command(SMALL)
    assert stopped.code == 130
    assert stopped.err.startswith("toastproof: interrupted before there was a record; networks that were trained are")
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_in_the_first_job_of_a_sweep_names_its_folder_and_leaves_its_page(command, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.run.enter", interrupted)
    stopped = command(["-m", *SMALL, "seed=0,1"])
    assert stopped.code == 130
    assert len(stopped.err.strip().splitlines()) == 1
    folder = tmp_path / next(w for w in stopped.err.split() if w.startswith("run.dir=runs/")).partition("=")[2]
    assert {path.name for path in folder.iterdir()} == {"multirun.yaml", "report.html", "sweep.csv"}
    assert list(pd.read_csv(folder / "sweep.csv")["status"]) == ["waiting", "waiting"]


def test_an_interrupted_sweep_of_what_makes_no_records_gets_no_page(command, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.classify.classify", interrupted)
    assert command(["-m", "task=classify", "seed=0,1", "run.dir=out"]).code == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["multirun.yaml"]


def test_an_interrupt_while_jobs_are_composed_names_the_folder_of_the_sweep(command, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("hydra._internal.config_loader_impl.ConfigLoaderImpl.load_sweep_config", interrupted)
    stopped = command(["-m", *SMALL, "seed=0,1", "run.dir=out"])
    assert stopped.code == 130
    assert stopped.err == "toastproof: interrupted; the same command with run.dir=out goes on\n"


def test_an_interrupted_launcher_does_not_say_that_nothing_was_done(monkeypatch):
    from eval import task

    task.forget()
    monkeypatch.setattr(sys, "argv", ["toastproof", "-m", "hydra/launcher=joblib"])
    assert "the same run.dir goes on" in task.interruption()


def test_a_crashed_attack_ends_with_exit_status_1_and_a_report(command, tmp_path, monkeypatch):
    def crash(*arguments, **keywords):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr("attacks.fgsm.FGSM.__call__", crash)
    done = command([*SMALL, "hydra.run.dir=out"])
    assert done.code == 1
    assert "attack.fgsm on softmax crashed" in done.err
    assert "crashed" in (tmp_path / "out" / "report.html").read_text()


def test_trainings_are_logged_to_tensorboard_on_request(command, tmp_path):
    pytest.importorskip("tensorboard")
    assert command([*SMALL, "tensorboard=true", "seed=77", "hydra.run.dir=out"]).code == 0
    assert list((tmp_path / "out" / "tensorboard" / "softmax").glob("events.*"))


def test_a_full_disk_is_one_line_and_what_was_done_is_kept(command, tmp_path, monkeypatch):
    import errno

    from eval.records import write_part as real

    written = []

    def full(folder, name, columns):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "parts"))
        written.append(name)
        real(folder, name, columns)

    for user in ("make", "workload"):
        monkeypatch.setattr(f"eval.{user}.write_part", full)
    arguments = ["debug=quick", "model=[softmax]", "attack=[fgsm,noise_uniform]", "hydra.run.dir=out"]
    done = command(arguments)
    assert done.code == 2
    assert "parts: No space left on device" in done.err
    assert len(done.err.strip().splitlines()) == 1
    for user in ("make", "workload"):
        monkeypatch.setattr(f"eval.{user}.write_part", real)
    kept = sorted((tmp_path / "out" / "parts").iterdir())
    assert len(kept) == 2
    assert command(arguments).code == 0  # goes on
    assert set(kept) <= set((tmp_path / "out" / "parts").iterdir())
