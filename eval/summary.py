"""The table that a run prints at its end."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from eval import metrics
from eval.records import Run


def _percent(row: pd.Series[Any], name: str) -> str:
    return f"{row[name]:.1%} [dim]{row['low']:.1%}-{row['high']:.1%}[/]" if row["n"] else "-"


def show(run: Run, records: pd.DataFrame, console: Console) -> None:
    """Print clean and robust accuracy of each model, with 95% intervals, and the warnings."""
    threat = metrics.Threat.of(run)
    clean = metrics.clean_accuracy(records).set_index("model")
    robust = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    at = robust[robust["eps_text"] == threat.headline]
    table = Table(
        title=f"Accuracy under attack, {threat.norm} eps = {threat.headline}, n = {run.data['n']}, seed {run.seed}",
        caption="95% Wilson intervals; an attack that fails proves nothing: robust accuracies are upper bounds",
    )
    attacks = list(dict.fromkeys(at["attack"]))
    for heading in ("model", "clean", *attacks):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in (m["name"] for m in run.models):
        cells = {row["attack"]: _percent(row, "robust_accuracy") for _, row in at[at["model"] == model].iterrows()}
        table.add_row(str(model), _percent(clean.loc[model], "clean_accuracy"), *(cells.get(a, "-") for a in attacks))
    console.print(table)
    for line in run.warnings:
        console.print(f"[bold red]warning:[/] {line}", highlight=False)
