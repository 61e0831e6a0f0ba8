from __future__ import annotations

import json
import os

import pytest
from omegaconf import OmegaConf

from eval import environment
from eval.records import Run

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("DEPLOY_NAME", SECRET)
    monkeypatch.setenv("SHORT", "7")


def read(text: str):
    return environment.read(OmegaConf.create(text))


def test_values_are_used_and_interpolations_are_shown():
    content, shown, hidden = read("{a: '${oc.env:DEPLOY_NAME}', b: '${a}/x', c: ['${b}', 1], d: {e: plain}}")
    assert content == {"a": SECRET, "b": f"{SECRET}/x", "c": [f"{SECRET}/x", 1], "d": {"e": "plain"}}
    assert shown == {"a": "${oc.env:DEPLOY_NAME}", "b": "${a}/x", "c": ["${b}", 1], "d": {"e": "plain"}}
    assert hidden.hide({"k": [f"in {SECRET}."]}) == {"k": ["in ${oc.env:DEPLOY_NAME}."]}


def test_a_short_value_and_one_that_is_decoded_are_not_shown_either():
    content, shown, hidden = read("{seed: '${oc.decode:${oc.env:SHORT}}', n: '${oc.env:SHORT}', other: 17}")
    assert content == {"seed": 7, "n": "7", "other": 17}
    assert shown == {"seed": "${oc.decode:${oc.env:SHORT}}", "n": "${oc.env:SHORT}", "other": 17}
    assert hidden.hide("17 samples") == "17 samples"


def test_a_default_in_the_place_of_a_missing_variable_is_not_hidden():
    _, shown, hidden = read("{a: '${oc.env:NOT_THERE,fallback}'}")
    assert shown == {"a": "${oc.env:NOT_THERE,fallback}"}
    assert hidden.hide("fallback") == "fallback"


def test_our_own_variables_are_shown(monkeypatch):
    monkeypatch.setenv("TOASTPROOF_DATA", "/data/sets")
    _, shown, hidden = read("{data: '${oc.env:TOASTPROOF_DATA,data}'}")
    assert shown == {"data": "/data/sets"}
    assert hidden.hide("/data/sets") == "/data/sets"


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "SOME_API_KEY"])
def test_what_is_called_a_secret_is_hidden_wherever_it_comes_from(monkeypatch, name):
    monkeypatch.setenv(name, "abc-def-123")
    assert read("{a: 1}")[2].hide("--key=abc-def-123") == f"--key=${{oc.env:{name}}}"


@pytest.mark.parametrize("name", ["GIT_AUTHOR_NAME", "TOKENIZERS_PARALLELISM", "KEYBOARD"])
def test_what_is_only_spelt_alike_is_not_hidden(monkeypatch, name):
    monkeypatch.setenv(name, "some words")
    assert read("{a: 1}")[2].hide("some words") == "some words"


def test_the_longer_of_two_values_goes_first(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdefghi")
    assert read("{a: 1}")[2].hide("abcdefghi") == "${oc.env:B_TOKEN}"


def test_the_resolver_is_as_it_was():
    read("{a: '${oc.env:DEPLOY_NAME}'}")
    assert OmegaConf.create("{a: '${oc.env:DEPLOY_NAME}'}").a == SECRET


def test_a_configuration_with_mistakes_hides_what_it_can():
    assert environment.hidden(OmegaConf.create("{a: '${oc.env:DEPLOY_NAME}', b: '${nowhere}'}")).hide(SECRET) != SECRET


def stored(folder) -> str:
    """Everything that a run or a sweep left, as text."""
    paths = [p for p in folder.rglob("*") if p.is_file()]
    return "\n".join(p.read_bytes().decode("utf-8", "replace") for p in paths)


def test_nothing_of_the_environment_is_left_by_a_run(command, tmp_path, monkeypatch):
    monkeypatch.setenv("CI_JOB_TOKEN", "token-0123456789")
    where = ["model=[softmax]", "attack=[fgsm]", "debug=quick", "hydra.run.dir=out"]
    done = command([*where, "title=for ${oc.env:DEPLOY_NAME}", "data.name=token-0123456789", "seed=${oc.env:SHORT}"])
    assert done.code == 0, done.err
    run = Run.read(tmp_path / "out")
    assert run.seed == 7
    assert run.title == "for ${oc.env:DEPLOY_NAME}"
    assert run.config["seed"] == "${oc.env:SHORT}"
    text = stored(tmp_path / "out")
    assert SECRET not in text
    assert "token-0123456789" not in text
    again = command([*where, "title=for ${oc.env:DEPLOY_NAME}", "data.name=token-0123456789", "seed=${oc.env:SHORT}"])
    assert again.code == 0, again.err  # it goes on with what is there


def test_nothing_of_the_environment_is_left_by_a_sweep(command, tmp_path):
    jobs = ["-m", "model=[softmax]", "attack=[fgsm]", "debug=quick", "hydra.sweep.dir=out", "threat.eps=0.1,9"]
    done = command([*jobs, "data.root=${oc.env:DEPLOY_NAME}", "title=${oc.env:DEPLOY_NAME}"])
    assert done.code == 2
    assert json.loads((tmp_path / "out" / "1" / "error.json").read_text())["status"] == "refused"
    assert SECRET not in stored(tmp_path / "out")


def test_an_error_that_names_a_value_is_stored_without_it(command, tmp_path):
    jobs = ["-m", "data=images", "data.root=${oc.env:DEPLOY_NAME}", "hydra.sweep.dir=out", "seed=0,1"]
    assert command(jobs).code == 2
    assert "${oc.env:DEPLOY_NAME}" in (tmp_path / "out" / "0" / "error.json").read_text()
    assert SECRET not in stored(tmp_path / "out")
    assert SECRET in os.environ.values()
