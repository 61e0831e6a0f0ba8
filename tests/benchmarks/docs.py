"""Puts the stored results into the README and docs/benchmarks.md, between marks that stand there.

    python -m tests.benchmarks.docs

The tables are those of `lbfgs_table --markdown docs/benchmarks/*.json`, in full and `--brief`. A test holds that
nothing else stands there.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import markdown
from tests.benchmarks.results import Row, read

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- lbfgs_table: begin -->", "<!-- lbfgs_table: end -->"


def stored() -> list[Row]:
    """All rows in docs/benchmarks."""
    return [row for path in sorted((ROOT / "docs" / "benchmarks").glob("*.json")) for row in read(path)]


def pages(rows: list[Row]) -> dict[Path, str]:
    """The files with the tables of these rows in place of what stands there."""
    brief = markdown.brief([row for row in rows if row.method in markdown.BRIEF])
    made = {}
    for name, table in (("README.md", brief), ("docs/benchmarks.md", markdown.full(rows))):
        text = (ROOT / name).read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        made[ROOT / name] = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
    return made


def main() -> None:
    """Write the files."""
    for path, text in pages(stored()).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
