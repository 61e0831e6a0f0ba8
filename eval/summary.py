"""What a run prints at its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval import effort, metrics
from eval.diagnosis.reading import Diagnosis, diagnoses
from eval.records import Run
from eval.studies.readers import reading, studied


def _median(near: Mapping[Any, Any] | None, several: bool) -> str:
    """The median distance of a minimal attack, with its norm among several, and on how many it was found if not all."""
    if near is None or not near["found"]:
        return ""
    norm = f" {near['distance_norm']}" if several else ""
    missed = f", {near['found']} of {near['searched']}" if near["found"] < near["searched"] else ""
    return f"{near['distance_median']:.3g}{norm}{missed}"


def show(run: Run, records: pd.DataFrame, folder: Path, console: Console) -> None:
    """Print what a run found, and its warnings: what its study says, or else a table."""
    if studied(run):
        said = reading(run, records, folder)
        for line in (*said.findings, *(f"{s.title}: {s.answer}" for s in said.sections if s.answer)):
            console.print(f"- {line}", highlight=False, soft_wrap=True, markup=False)
        for line in said.told:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
    else:
        told = diagnoses(run, records, folder)
        if run.attacks:
            _table(run, records, console, {found.model for found in told if found.against})
        for found in told:
            style = "bold red" if found.against else "bold"
            console.print(f"[{style}]{found.model}:[/] {found.verdict}", highlight=False, soft_wrap=True)
            if found.against:
                console.print(
                    f"  what to do: {'; or '.join(found.advice)}", highlight=False, soft_wrap=True, markup=False
                )
            for text in below(found, metrics.Threat.of(run)):
                console.print(f"  {text}", highlight=False, soft_wrap=True)
    for line in run.warnings:
        console.print(f"[bold red]warning:[/] {line}", highlight=False, soft_wrap=True)


def below(found: Diagnosis, threat: metrics.Threat) -> list[str]:
    """What is proved of a network, in sentences."""
    at = f"at {threat.norm} eps = {threat.headline}"
    lines = []
    if found.bracket is not None and found.bracket.possible:
        lines.append(f"{at} {found.bracket.text}")
    elif found.bracket is not None:
        lines.append(f"nothing can be proved: {found.bracket.proofs[0].refused}")
    if (soft := found.smoothed) is not None:
        lines.append(
            f"another network, this one under noise of deviation {soft.sigma:g} by majority: {soft.certified} of "
            f"{soft.n} samples are certified {at}, each with {1 - soft.alpha:.1%} confidence"
        )
    return lines


def _table(run: Run, records: pd.DataFrame, console: Console, doubted: Collection[str] = ()) -> None:
    """Print clean and robust accuracy of each model under each attack, with 95% intervals.

    Beside minimal attacks stands the median distance in the norm that they minimise, over the samples that were
    right before and on which a perturbation was found.
    """
    threat = metrics.Threat.of(run)
    clean = {row["model"]: row for row in metrics.clean_accuracy(records).to_dict("records")}
    robust = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    at = robust[robust["eps_text"] == threat.headline].to_dict("records")
    found = {(row["model"], row["attack"]): row for row in at}
    near = {(row["model"], row["attack"]): row for row in effort.minimal_distances(records).to_dict("records")}
    norms = sorted({a["norm"] for a in run.attacks if a["minimal"]})
    untargeted = run.goal == "untargeted"
    what = "Accuracy under attack" if untargeted else "Correct before and not brought to the wanted class"
    sheet = Table(title=f"{what}, {threat.norm} eps = {threat.headline}, n = {run.data['n']}, seed {run.seed}")
    for heading, side in (("model", "left"), ("attack", "left"), ("accuracy", "right"), ("95% interval", "right")):
        sheet.add_column(heading, justify=side, no_wrap=heading != "model", overflow="fold")  # type: ignore[arg-type]
    if norms:
        sheet.add_column(f"median {norms[0]}" if len(norms) == 1 else "median", justify="right", no_wrap=True)
    for model in (str(m["name"]) for m in run.models):
        row = clean[model]
        named = Text(model).append(" (not trustworthy, see below)", "bold red") if model in doubted else Text(model)
        sheet.add_row(named, "none", f"{row['clean_accuracy']:.1%}", f"{row['low']:.1%} - {row['high']:.1%}")
        for attack in [*(str(a["name"]) for a in run.attacks), metrics.WORST]:
            if (model, attack) not in found:
                continue
            row = found[model, attack]
            style = "bold" if attack == metrics.WORST else None
            low_high = f"{row['low']:.1%} - {row['high']:.1%}"
            accuracy = f"{row['robust_accuracy']:.1%}" if row["n"] else "-"
            median = [_median(near.get((model, attack)), len(norms) > 1)] if norms else []
            sheet.add_row("", attack, accuracy, low_high, *median, style=style)
        sheet.add_section()
    console.print(sheet)
    bounds = "robust accuracies are" if untargeted else "these shares are"
    console.print(f"An attack that fails proves nothing: {bounds} upper bounds.", highlight=False)
