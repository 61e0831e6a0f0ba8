"""The tables that people get as CSV. Columns keep their names and order from version to version.

Read them with `pandas.read_csv(path, keep_default_na=False)`: a class or a model may well be called None or NA.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from eval.effort import DISTANCES
from eval.frames import read_frame
from eval.records import replace

SUMMARY = (
    "model", "attack", "minimal", "norm", "eps_text", "eps", "n", "robust", "robust_accuracy", "low", "high",
    "robust_8bit", "robust_accuracy_8bit", "low_8bit", "high_8bit", "errors", "alone", "forwards", "backwards",
    "seconds", "clean_n", "clean_accuracy", "clean_low", "clean_high", *DISTANCES,
)  # fmt: skip
TRANSFER = (
    "source", "target", "attack", "norm", "eps_text", "eps", "n", "wrong", "error", "low", "high", "clean_error",
    "noise_n", "noise_error", "low_noise", "high_noise", "moved", "rms", "transfer_n", "transferred",
    "low_transferred", "high_transferred", "targeted_n", "targeted", "low_targeted", "high_targeted", "failed",
)  # fmt: skip
_ACCURACIES = (
    "n", "clean_accuracy", "low", "high", "robust_n", "robust_accuracy", "low_robust", "high_robust", "boundary_error",
    "low_boundary", "high_boundary",
)  # fmt: skip
PARTS = {
    "classes": ("model", "label", "class", *_ACCURACIES),
    "groups": ("model", "group", *_ACCURACIES),
    "disparity": (
        "model", "by", "n", "parts", "clean", "low_clean", "high_clean", "robust", "low_robust", "high_robust",
        "growth", "low_growth", "high_growth", "mean_robust", "least_robust", "worst", "grown", "halved", "replicates",
    ),
}  # fmt: skip


def write_text(path: Path, text: str) -> Path:
    """Write a file in one step, its line ends as they are."""
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))
    return path


def write_csv(path: Path, table: pd.DataFrame, columns: tuple[str, ...] | None = None) -> Path:
    """Write a table, or some of its columns; numbers with the digits that they have, shares that are none as empty."""
    chosen = table if columns is None else table[list(columns)]
    return write_text(path, chosen.to_csv(index=False, lineterminator="\n"))


def write_records(path: Path, run_folder: Path) -> None:
    """Write all records of a run; without the text of all of them in memory."""
    records = read_frame(run_folder)
    replace(path, lambda beside: records.to_csv(beside, index=False, lineterminator="\n", encoding="utf-8"))


def summary(robust: pd.DataFrame, clean: pd.DataFrame, minimal: set[str], distances: pd.DataFrame) -> pd.DataFrame:
    """One row per model x attack x eps, the worst case among them, beside the model's clean accuracy.

    A minimal attack's row has what `eval.effort.minimal_distances` says of it too, the same at every eps.
    """
    names = {"n": "clean_n", "low": "clean_low", "high": "clean_high"}
    beside = clean[["model", *names, "clean_accuracy"]].rename(columns=names)
    table = robust.merge(beside, on="model", how="left").merge(distances, on=["model", "attack"], how="left")
    table = table.astype({"searched": "Int64", "found": "Int64"})
    return table.assign(minimal=table["attack"].isin(minimal))[list(SUMMARY)]
