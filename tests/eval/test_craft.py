from __future__ import annotations

import subprocess
import sys

from eval.records import read_records
from eval.schema import CONF
from tests.bytecode import BYTECODE


def test_the_first_attack_is_not_charged_for_what_is_loaded_on_first_use(tmp_path, checkpoints):
    arguments = ["debug=quick", "model=[softmax]", "attack=[fgsm]", "hydra.run.dir=out"]
    done = subprocess.run(
        [sys.executable, "-m", "eval", *arguments, f"paths.checkpoints={checkpoints}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CONF.parent), "PATH": "/usr/bin:/bin", **BYTECODE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = read_records(tmp_path / "out")
    assert rows["seconds"].sum() < 0.1  # of a process that has just begun; 0.5 if the imports were counted
