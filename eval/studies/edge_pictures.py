"""Sheets of the filters and the templates of `eval.studies.edges`. Free of torch."""

from __future__ import annotations

from eval.studies.edges_names import EDGES, VARIANTS
from eval.studies.reading import Pictures
from eval.studies.sheets import Array, around_grey, sheet


def pictures(own: str, measured: dict[str, dict[str, Array]]) -> tuple[Pictures, ...]:
    """Sheets of the filters, and of the templates: a row a class, a column a filter."""
    shown = {own: EDGES} | {own + ending: label for ending, label in VARIANTS.items()}
    filters, templates = [], []
    for name, label in shown.items():
        found = measured.get(name, {})
        if "filters" not in found or name == own + "_pixels":
            continue
        weights = found["weights"]
        said = "" if (weights == 1).all() else "; weights " + " ".join(f"{w:.2g}" for w in weights)
        filters.append((f"{label}{said}", sheet(around_grey(found["filters"])[:, None], 4)))
        t = found["templates"]  # (n, F, P, P)
        grey = around_grey(t.reshape(len(t), -1)).reshape(-1, 1, *t.shape[2:])
        templates.append((label, sheet(grey, t.shape[1])))
    if not filters:
        return ()
    return (
        Pictures("edge-filters", "Filters", "Zero in grey, each as strong as its largest weight.", tuple(filters)),
        Pictures(
            "edge-templates", "Templates", "A row a class, a column a filter; zero in grey.", tuple(templates)
        ),
    )  # fmt: skip
