"""The page beside the verdict: what is proved, what is broken, and that a smoothed network is another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eval.diagnosis.bracket import Bracket, Proof, Smoothed
from eval.diagnosis.checks import Seen
from eval.diagnosis.questions import diagnose
from eval.diagnosis.reading import Diagnosis
from reports.content import Page, read
from reports.html import render

BRACKET = Bracket(100, 20, 60, 60, (), 30, 2.5, (Proof("bounds of the logits (intervals)", 20, 0.0123),))


@pytest.fixture
def page(run_folder: Path) -> Page:
    return read(run_folder)


def shown(page: Page, bracket: Bracket | None, smoothed: Smoothed | None = None) -> str:
    checks = diagnose(Seen(bracket=bracket))
    return render("run.html.j2", replace(page, diagnoses=(Diagnosis("net", checks, bracket, smoothed),)))


def test_the_bracket_stands_beside_the_verdict(page: Page) -> None:
    html = shown(page, BRACKET)
    assert "20.0%</b> proved" in html
    assert "40.0%</b> broken or wrong already" in html
    assert "60.0% of the 100 samples decided" in html
    assert 'class="open" style="left:20.00%;width:40.00%"' in html
    assert "0.0123" in html
    assert "Another network" not in html


def test_a_contradiction_is_said_first(page: Page) -> None:
    html = shown(page, replace(BRACKET, broken=("test/7", "test/9")))
    assert "Not trustworthy, because" in html
    assert "on 2 of 100 samples a perturbation was found nearer than a proof says it can be" in html


def test_what_cannot_be_proved_says_why(page: Page) -> None:
    html = shown(page, Bracket(100, 0, 60, 40, (), 0, float("nan"), (Proof("gains", 0, 0.0, "sort has no bound"),)))
    assert "not possible: sort has no bound" in html
    assert "samples decided" not in html


def test_the_smoothed_network_is_called_another_one(page: Page) -> None:
    html = shown(page, BRACKET, Smoothed(100, 30, 90, 5, 0.25, 0.001))
    assert "Another network" in html
    assert "99.9% confidence" in html
    assert "30 (30.0%" in html


def test_it_says_what_was_searched_with(page: Page) -> None:
    html = shown(page, BRACKET)
    for attack in page.run.attacks:
        assert f"<strong>{attack['name']}</strong>: " in html
    none = replace(page, run=replace(page.run, attacks=[]))
    assert "what its own short searches left standing" in shown(none, BRACKET)


def test_a_bracket_beside_attacks_that_aim_at_classes_says_that_it_does_not(page: Page) -> None:
    assert "whatever the attacks aim at" not in shown(page, BRACKET)
    aimed = replace(page, run=replace(page.run, goal="least_likely"))
    assert "and any other class counts here, whatever the attacks aim at" in shown(aimed, BRACKET)


def test_a_number_that_is_not_to_be_trusted_is_marked_wherever_it_stands(page: Page) -> None:
    model = page.cards[0].model
    broken = replace(BRACKET, broken=("test/7",))
    found = Diagnosis(model, diagnose(Seen(bracket=broken)), broken)
    html = render("run.html.j2", replace(page, diagnoses=(found,)))
    card, table = html.index('id="headline"'), html.index('id="robust"')
    assert "<strong>Not trustworthy:</strong>" in html[card:table]
    assert html.count("<strong>Not trustworthy:</strong>") == 1
    assert html.count('<small class="flag">not trustworthy</small>') == 1
    assert "What to do:</strong> " + found.against[0].question.remedy.replace("&", "&amp;") in html
    assert "not trustworthy</small>" not in shown(page, BRACKET)
    assert html.index('href="#trust"') < html.index('href="#headline"')
