"""The command: options, resuming, and what it writes."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from torch import nn

from eval.errors import InputError
from models.weights import fingerprint
from tests.benchmarks import lbfgs_table
from tests.benchmarks.networks import Subject, load
from tests.benchmarks.results import Results, code, read


@pytest.fixture
def subject(monkeypatch):
    """A small linear network in the place of the real ones, and a list of the methods that were run on it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 10)).requires_grad_(False).eval()
    x = torch.rand(20, 1, 3, 4)
    measured = []

    def loaded(name, images, first, device):
        return Subject(name, net, x[:images], net(x[:images]).argmax(1), first or 0, fingerprint(net))

    def counted(method, *arguments):
        measured.append(method.name)
        return measure(method, *arguments)

    measure = lbfgs_table.measure
    monkeypatch.setattr(lbfgs_table, "load", loaded)
    monkeypatch.setattr(lbfgs_table, "measure", counted)
    monkeypatch.setattr("tests.benchmarks.measure._ENOUGH", 0.0)  # each method runs once after its warm-up
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    return measured


@pytest.fixture
def command(tmp_path):
    """Runs the command for two methods, with its results in a file."""
    fixed = ["--networks", "mlp", "--goals", "untargeted", "--device", "cpu", "--out", str(tmp_path / "out.json")]
    return lambda *more: lbfgs_table.main([*fixed, *more])


SMALL = ("--images", "6", "--methods", "default,ddn-100")


def test_the_command_writes_rows_as_they_are_measured(subject, command, tmp_path, capsys):
    assert command(*SMALL) == 0
    rows = read(tmp_path / "out.json")
    assert [r.method for r in rows] == ["default", "ddn-100"]
    assert all(len(r.rms) == len(r.reached) == 6 for r in rows)
    assert rows[1].package.startswith("foolbox ")
    assert rows[0].settings["evaluations"] == 300
    printed = capsys.readouterr().out
    assert "mlp untargeted ddn-100: 6 of 6 fooled" in printed
    assert "RMS / default" in printed


def test_a_second_command_measures_only_what_is_missing(subject, command):
    command(*SMALL)
    subject.clear()
    command(*SMALL)
    assert subject == []
    command("--images", "6", "--methods", "default,ddn-100,paper")
    assert subject == ["default", "paper"]  # the default once more, for its time beside the other


@pytest.mark.parametrize("change", [("--fresh",), ("--seed", "1"), ("--images", "5"), ("--first", "3")])
def test_another_identity_is_measured_again(subject, command, change):
    command(*SMALL)
    subject.clear()
    command(*SMALL, *change)
    assert "ddn-100" in subject


@pytest.mark.parametrize("heavy", [2, 6])
def test_the_default_is_timed_right_before_a_heavy_method_on_its_images(subject, command, tmp_path, heavy):
    command("--images", "6", "--methods", "default,ddn-100,scipy-cleverhans3", "--heavy-images", str(heavy))
    assert subject == ["default", "ddn-100", "default", "scipy-cleverhans3"]
    assert [r.images for r in read(tmp_path / "out.json")] == [6, 6, heavy]


def test_a_row_whose_code_has_changed_takes_the_place_of_the_old_one(subject, command, tmp_path):
    command(*SMALL)
    path = tmp_path / "out.json"
    content = json.loads(path.read_text())
    content["rows"][0]["code"] = "another"
    path.write_text(json.dumps(content))
    subject.clear()
    command(*SMALL)
    assert subject == ["default"]
    assert sorted(r.method for r in read(path)) == ["ddn-100", "default"]


def test_sources_edited_during_a_run_do_not_change_what_its_rows_say_they_measured(monkeypatch, tmp_path):
    source = tmp_path / "edited.py"
    source.write_text('"""One."""\na = 1')
    module = types.ModuleType("attacks.edited")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "attacks.edited", module)
    try:
        code.cache_clear()
        before = code()
        source.write_text("a = 2")
        assert code() == before
        code.cache_clear()  # as in a new process
        assert code() != before
        source.write_text("a = 1  # one")
        code.cache_clear()
        assert code() == before
    finally:
        code.cache_clear()


def test_markdown_is_printed_from_files_alone(subject, command, tmp_path, capsys):
    command(*SMALL)
    capsys.readouterr()
    subject.clear()
    assert lbfgs_table.main(["--markdown", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert subject == []
    for row in read(tmp_path / "out.json"):
        assert f"{sum(row.rms) / 6:#.4g}" in printed
        assert f"{row.milliseconds:.2f}" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--networks", "vgg"], "--networks: 'vgg' is none of mlp,"),
        (["--goals", "both"], "--goals: 'both' is none of untargeted, targeted"),
        (["--methods", "bim"], "--methods: 'bim' is none of default,"),
        (["--device", "abacus"], "device: must be"),
        (["--markdown", "none.json"], "none.json: no such file"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_2(arguments, words, capsys):
    assert lbfgs_table.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "other.json"
    for content in ("{", "[]", "{}", '{"format": "x", "rows": []}'):
        path.write_text(content)
        with pytest.raises(InputError, match=r"measure again|name another file"):
            Results(path)


def test_targets_of_the_first_images_do_not_depend_on_their_number():
    labels = torch.arange(300) % 10
    net = nn.Identity()
    few, many = (Subject("n", net, labels[:n], labels[:n], 0, "").goal("targeted", 3).targets for n in (7, 300))
    assert torch.equal(few, many[:7])
    assert (many != labels).all()


def test_images_are_those_classified_correctly_from_a_number_on(real_data):
    some = load("mnist_lenet5_clean", 5, 7100)
    from torchvision.datasets import MNIST

    test = MNIST(real_data, train=False, download=False)
    x, y = test.data[7100:7120, None].float() / 255, test.targets[7100:7120]
    right = some.network(x).argmax(1) == y
    assert torch.equal(some.x, x[right][:5])
    assert torch.equal(some.labels, y[right][:5])


def test_markdown_of_some_methods(subject, command, tmp_path, capsys):
    command(*SMALL)
    capsys.readouterr()
    assert lbfgs_table.main(["--markdown", str(tmp_path / "out.json"), "--methods", "default"]) == 0
    printed = capsys.readouterr().out
    assert "ours, default" in printed
    assert "DDN" not in printed
