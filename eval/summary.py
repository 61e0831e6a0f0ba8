"""The table that a run prints at its end."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table

from eval import metrics
from eval.records import Run


def show(run: Run, records: pd.DataFrame, console: Console) -> None:
    """Print clean and robust accuracy of each model under each attack, with 95% intervals, and the warnings."""
    threat = metrics.Threat.of(run)
    clean = {row["model"]: row for row in metrics.clean_accuracy(records).to_dict("records")}
    robust = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    at = robust[robust["eps_text"] == threat.headline].to_dict("records")
    found = {(row["model"], row["attack"]): row for row in at}
    minimal = {a["name"]: a["norm"] for a in run.attacks if a["minimal"]}
    untargeted = run.goal == "untargeted"
    what = "Accuracy under attack" if untargeted else "Correct before and not brought to the wanted class"
    sheet = Table(title=f"{what}, {threat.norm} eps = {threat.headline}, n = {run.data['n']}, seed {run.seed}")
    for heading, side in (("model", "left"), ("attack", "left"), ("accuracy", "right"), ("95% interval", "right")):
        sheet.add_column(heading, justify=side, no_wrap=heading != "model", overflow="fold")  # type: ignore[arg-type]
    for model in (str(m["name"]) for m in run.models):
        row = clean[model]
        sheet.add_row(model, "none", f"{row['clean_accuracy']:.1%}", f"{row['low']:.1%} - {row['high']:.1%}")
        for attack in [*(str(a["name"]) for a in run.attacks), metrics.WORST]:
            if (model, attack) not in found:
                continue
            row = found[model, attack]
            name = f"{attack} (smallest {minimal[attack]})" if attack in minimal else attack
            style = "bold" if attack == metrics.WORST else None
            low_high = f"{row['low']:.1%} - {row['high']:.1%}"
            sheet.add_row("", name, f"{row['robust_accuracy']:.1%}" if row["n"] else "-", low_high, style=style)
        sheet.add_section()
    console.print(sheet)
    bounds = "robust accuracies are" if untargeted else "these shares are"
    console.print(f"An attack that fails proves nothing: {bounds} upper bounds.", highlight=False)
    for line in run.warnings:
        console.print(f"[bold red]warning:[/] {line}", highlight=False, soft_wrap=True)
