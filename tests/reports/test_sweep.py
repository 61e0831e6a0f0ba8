from __future__ import annotations

import pandas as pd
import pytest

from eval.errors import InputError
from eval.excuse import Excuse
from eval.records import Run
from reports.build import write, write_sweep
from reports.sweep import differences, folders, read


def test_jobs_come_in_the_order_of_their_numbers(tmp_path, make_run):
    for job in (10, 2, 1):
        make_run(tmp_path / str(job), n=5, models=("mlp",), examples=False)
    assert [p.name for p in folders([tmp_path])] == ["1", "2", "10"]


def test_what_varied_is_found_and_folders_are_not_it(sweep_folder):
    for job in ("0", "1", "2", "3"):
        header = Run.read(sweep_folder / job)
        header.config["run"] = {"dir": f"runs/2026-11-21/12-00-0{job}", "workers": None}
        header.write(sweep_folder / job)
    assert read([sweep_folder], sweep_folder).varied == ("train.decay",)


def test_jobs_that_did_not_complete_are_listed(sweep_folder):
    Excuse("refused", "threat.eps: must be > 0", ("threat.eps=0", "seed=1")).write(sweep_folder / "4")
    sweep = read([sweep_folder], sweep_folder)
    assert sweep.ended == 3
    assert [(name, status, why) for name, _, status, why in sweep.problems] == [
        ("3", "failed", "it does not say why"),
        ("4", "refused", "threat.eps: must be > 0"),
    ]
    assert {r.job for r in sweep.ranked} == {"0", "1", "2"}


def test_best_and_worst(sweep_folder):
    ranked = read([sweep_folder], sweep_folder).ranked
    assert ranked[0].values == ("2.0",)
    assert ranked[-1].values == ("0.5",)


def test_a_refused_job_is_told_with_its_own_overrides(sweep_folder):
    for job in ("0", "1", "2", "3"):
        header = Run.read(sweep_folder / job)
        header.overrides = ["debug=quick", f"train.decay={job}"]
        header.write(sweep_folder / job)
    Excuse("refused", "must be <small>", ("debug=quick", "train.decay=-1")).write(sweep_folder / "4")
    page = write_sweep([sweep_folder], sweep_folder).read_text()
    refused = page.partition("Refused: 1 ")[2].partition("</ul>")[0]
    assert "<li>4 (<code>train.decay=-1</code>): must be &lt;small&gt;</li>" in refused
    last = pd.read_csv(sweep_folder / "sweep.csv", keep_default_na=False).iloc[-1]
    assert last[["status", "overrides", "error"]].tolist() == ["refused", "train.decay=-1", "must be <small>"]


def test_a_job_that_was_refused_does_not_pass_for_the_run_that_its_folder_holds(sweep_folder):
    Excuse("refused", "holds another run", ("seed=3",)).write(sweep_folder / "1")
    sweep = read([sweep_folder], sweep_folder)
    assert {r.job for r in sweep.ranked} == {"0", "2"}
    assert [j.status for j in sweep.jobs] == ["complete", "refused", "complete", "failed", "missing"]


def _twins(make_run, folder, *strengths):
    for job, strength in enumerate(strengths):
        make_run(folder / str(job), config={"way": str(job)}, strength=strength, models=("mlp",), examples=False)
    return read([folder], folder), write_sweep([folder], folder).read_text()


def _strangers(make_run, folder, varied=1, **changes):
    """Two runs, the second of which is about something else; and how many keys of no importance vary."""
    for job in ("0", "1"):
        ways = {f"way{i}": job for i in range(varied)}
        paths = {"data": {"path": f"{job}.npz"}} if varied > 1 else {}
        make_run(
            folder / job,
            config={"title": job, **paths, **ways},
            strength=1.0 + int(job),
            models=("mlp",),
            examples=False,
        )
    header = Run.read(folder / "1")
    for name, change in changes.items():
        content = getattr(header, name)
        setattr(header, name, {**content, **change} if isinstance(content, dict) else change)
    header.write(folder / "1")
    return read([folder], folder), write_sweep([folder], folder).read_text()


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({"data": {"name": "others"}}, ("data",)),
        ({"data": {"classes": ["a", "b"]}}, ("data",)),
        ({"config": {"data": {"path": "other.npz"}}}, ("data",)),
        ({"config": {"study": {"_target_": "eval.studies.tables.Tables"}}}, ("study",)),
        ({"goal": "toaster"}, ("goal",)),
    ],
)
def test_runs_that_answer_different_questions_are_not_ranked(tmp_path, make_run, changes, apart):
    sweep, page = _strangers(make_run, tmp_path, **changes)
    assert sweep.apart == apart
    assert sweep.extremes == []
    assert f"differ in {apart[0]}</strong>" in page
    assert "best-job" not in page.partition("</style>")[2]
    assert len(sweep.rows) == 2  # side by side


def test_runs_that_differ_in_networks_attacks_and_seeds_are_ranked(tmp_path, make_run):
    sweep, page = _strangers(make_run, tmp_path, seed=7, attacks=[], models=[])
    assert sweep.apart == ()
    assert "Not comparable" not in page


def test_runs_with_little_in_common_are_told_by_their_titles(tmp_path, make_run):
    sweep, page = _strangers(make_run, tmp_path, varied=8)
    assert sweep.apart == ("data",)
    assert [sweep.varied[i] for i in sweep.columns] == ["title", "data.path"]
    assert sweep.charts == ()
    assert 'class="left">way0' not in page


def test_a_tie_names_neither_best_nor_worst(tmp_path, make_run):
    sweep, page = _twins(make_run, tmp_path, 1.0, 1.0)
    assert sweep.extremes == []
    assert "None is best or worst: all 2 are equal" in page
    assert '<span class="best-job">' not in page


def test_a_shared_place_is_told(tmp_path, make_run):
    sweep, page = _twins(make_run, tmp_path, 1.0, 2.0, 1.0)
    assert [(rank, [r.job for r in rows]) for rank, rows in sweep.extremes] == [("best", ["1"]), ("worst", ["0", "2"])]
    assert "2 share the worst place" in page


def test_the_distance_decides_where_as_many_are_left(tmp_path, make_run):
    sweep, page = _twins(make_run, tmp_path, 0.01, 0.02)
    assert len({r.robust.value for r in sweep.rows}) == 1  # all broken, at whatever distance
    assert [(rank, [r.job for r in rows]) for rank, rows in sweep.extremes] == [("best", ["1"]), ("worst", ["0"])]
    assert "the larger median distance" in page
    assert "median distance</th>" in page


@pytest.mark.parametrize("called", ["", "_1e-4"])
def test_the_networks_do_not_share_a_heading_with_the_parameter(tmp_path, make_run, called):
    for job, name in enumerate(("softmax", "mlp")):
        config = {"model": {"path": None, "weights": None, name: {"decay": 0}}}
        make_run(tmp_path / str(job), n=20, models=(name + called,), examples=False, config=config)
    page = write_sweep([tmp_path], tmp_path).read_text()
    heads = page.partition('id="runs"')[2].partition("<thead>")[2].partition("</thead>")[0]
    assert heads.count(">model</th>") == 1
    assert heads.count(">network</th>") == (1 if called else 0)  # what the parameter says already has no column
    assert list(pd.read_csv(tmp_path / "sweep.csv")["config.model"].unique()) == ["softmax", "mlp"]


def test_a_torn_job_is_told_beside_the_others(sweep_folder):
    next((sweep_folder / "1" / "parts").iterdir()).write_bytes(b"torn")
    sweep = read([sweep_folder], sweep_folder)
    assert [job for job, *_ in sweep.problems] == ["1", "3", "4"]


def test_the_table_has_each_eps_of_each_job(sweep_folder):
    write_sweep([sweep_folder], sweep_folder)
    table = pd.read_csv(sweep_folder / "sweep.csv", keep_default_na=False, dtype={"job": str})
    assert list(table["job"]) == ["0", "0", "1", "1", "2", "2", "3", "3", "4"]
    assert list(table["status"])[-3:] == ["failed", "failed", "missing"]
    assert table["config.train.decay"][0] == "0.5"


def test_the_table_has_the_distances_of_minimal_attacks(sweep_folder):
    write_sweep([sweep_folder], sweep_folder)
    table = pd.read_csv(sweep_folder / "sweep.csv")
    assert table["distance_norm"][:6].eq("linf").all()
    assert table["distance_median"][0] < table["distance_median"][2] < table["distance_median"][4]
    assert table["found"].equals(table["searched"])


def test_the_page_links_to_the_reports_of_its_jobs(sweep_folder):
    write(sweep_folder / "0")
    page = write_sweep([sweep_folder], sweep_folder).read_text()
    assert 'href="0/report.html"' in page
    assert 'href="1/report.html"' not in page
    assert "Robust accuracy against train.decay" in page
    assert "<img src=x" not in page


def test_fractions_are_numbers(tmp_path, make_run):
    for job, eps in enumerate(("2/255", "4/255", "8/255")):
        make_run(tmp_path / str(job), n=20, models=("a", "b"), examples=False, config={"threat": {"eps": eps}})
    chart = read([tmp_path], tmp_path).charts[0]
    assert [row[1] for row in chart.rows] == ["2/255", "4/255", "8/255"] * 2


def test_words_have_a_dot_each_the_highest_first(tmp_path, make_run):
    for job, name in enumerate(("sgd", "adam")):
        config, strength = {"train": {"name": name}}, 1.0 + 2 * job
        make_run(tmp_path / str(job), n=20, models=("a",), examples=False, config=config, strength=strength)
    sweep = read([tmp_path], tmp_path)
    assert sweep.varied == ("train.name",)
    (chart,) = sweep.charts
    assert chart.title == "Robust accuracy by train.name"
    shares = {r.values[0]: r.robust for r in sweep.rows}
    assert [row[0] for row in chart.rows] == ["adam", "sgd"]
    assert [row[2:4] for row in chart.rows] == [(shares[v].text, shares[v].interval) for v in ("adam", "sgd")]
    assert chart.svg.count('class="lost"') == 2


def test_two_parameters_give_a_curve_per_value_of_the_other(tmp_path, make_run):
    for job in range(4):
        config = {"steps": 10 * (1 + job % 2), "decay": 10.0 ** -(4 * (job // 2))}
        make_run(tmp_path / str(job), n=20, models=("a",), examples=False, config=config)
    steps, decay = read([tmp_path], tmp_path).charts
    assert {row[0] for row in steps.rows} == {"a, decay=1.0", "a, decay=0.0001"}
    assert "decay (logarithmic)" in decay.svg


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ([{"a": 1}, {"a": 1}], {}),
        ([{"a": 1}, {"a": 1.5}], {"a": ["1", "1.5"]}),
        ([{"a": [1]}, {"a": [1, 2]}], {"a": ["[1]", "[1, 2]"]}),
        ([{"a": None}, {"a": "None"}], {"a": ["null", "None"]}),
        ([{"a": {"x": {"s": 1}}}, {"a": {"x": {"s": 2}, "y": {}}}], {"a": ["x", "x, y"], "a.x.s": ["1", "2"]}),
        ([{"m": {"path": None, "x": {"s": 1}}}, {"m": {"path": None, "y": {}}}], {"m": ["x", "y"]}),
        (
            [
                {"d": {"_target_": "eval.data.Digits"}},
                {"d": {"_target_": "eval.data.Arrays", "test": "a", "name": "b"}},
            ],
            {"d": ["Digits", "b"], "d._target_": ["eval.data.Digits", "eval.data.Arrays"]},
        ),
        ([{"a": {"b": 1}}, {"a": 3}], {"a": ['{"b": 1}', "3"]}),
    ],
)
def test_differences(configs, expected):
    assert differences(configs) == expected


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "0").mkdir()
    with pytest.raises(InputError, match=r"holds no run\.json"):
        folders([tmp_path])


def _grid(make_run, folder, models, decays):
    for job in range(2 * decays):
        config = {"steps": 10 * (1 + job % 2), "decay": str(10.0 ** -(job // 2))}
        make_run(folder / str(job), n=10, models=models, examples=False, config=config, transfer=False, seed=job)
    return [c for c in read([folder], folder).charts if c.name.startswith("sweep-0")]


def test_too_many_curves_for_one_chart_get_one_per_model(tmp_path, make_run):
    charts = _grid(make_run, tmp_path, ("a", "b", "c"), 3)
    assert [c.title for c in charts] == [f"Robust accuracy against steps: {m}" for m in "abc"]
    assert [c.svg.count('class="series') for c in charts] == [3, 3, 3]
    assert len({c.name for c in charts}) == 3


def test_too_many_curves_of_a_model_show_their_median_and_their_range(tmp_path, make_run):
    (chart,) = _grid(make_run, tmp_path, ("a",), 9)
    assert chart.svg.count('class="series') == 1
    assert "There are 9 settings of the other parameters: the line is their median" in chart.note
    shares = sorted(r.robust.value for r in read([tmp_path], tmp_path).rows if r.values[0] == "10")
    assert len(shares) == 9
    span = f"{100 * shares[0]:.1f}\u2013{100 * shares[-1]:.1f}%"
    assert chart.rows[0] == ("a, median of 9", "10", f"{100 * shares[4]:.1f}%", span, "9", "10")


def test_a_sweep_with_targeted_goals_says_what_it_counts(sweep_folder):
    for job in ("0", "1", "2", "3"):
        header = Run.read(sweep_folder / job)
        header.goal = "next"
        header.write(sweep_folder / job)
    page = write_sweep([sweep_folder], sweep_folder).read_text()
    assert "no accuracy, since any other wrong answer counts as held" in page
    assert "obust accuracy" not in page
