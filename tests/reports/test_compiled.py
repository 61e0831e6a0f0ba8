"""Templates that were compiled are taken as they are, and whatever is wrong with them costs time alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader
from jinja2.bccache import bc_magic

from reports.compiled import Compiled, compiled


class Counting(Environment):
    """Counts what it compiles."""

    count = 0

    def _generate(self, *asked, **more):
        type(self).count += 1
        return super()._generate(*asked, **more)


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What the template says, and how often a template has been compiled so far."""
    monkeypatch.setattr(Counting, "count", 0)
    (tmp_path / "page.j2").write_text("{{ name }}!")

    def render(kept: Compiled | None) -> tuple[str, int]:
        environment = Counting(loader=FileSystemLoader(tmp_path), bytecode_cache=kept)
        return environment.get_template("page.j2").render(name="toast"), Counting.count

    return render


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "settings.py").write_text("trim = True")
    return tmp_path / "settings.py"


@pytest.fixture(autouse=True)
def writes(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr("sys.pycache_prefix", str(tmp_path / "kept"))


def test_what_was_compiled_is_taken_until_template_or_settings_change(tmp_path, said, settings):
    assert said(compiled(tmp_path, settings)) == ("toast!", 1)
    assert said(compiled(tmp_path, settings)) == ("toast!", 1)
    (tmp_path / "page.j2").write_text("{{ name }}?")
    assert said(compiled(tmp_path, settings)) == ("toast?", 2)
    settings.write_text("trim = False")
    assert said(compiled(tmp_path, settings)) == ("toast?", 3)


def test_it_lies_where_python_keeps_its_own(tmp_path, said, settings, monkeypatch):
    said(compiled(tmp_path, settings))
    assert list((tmp_path / "kept").rglob("*.jinja"))
    monkeypatch.setattr("sys.pycache_prefix", None)
    said(compiled(tmp_path, settings))
    assert list((tmp_path / "__pycache__").glob("*.jinja"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert compiled(tmp_path, settings) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:2],
        lambda whole: whole[: len(bc_magic)],
        lambda whole: whole[: len(bc_magic) + 10],
        lambda whole: whole[: len(bc_magic)] + bytes(400),
        lambda whole: whole[:-20],
    ],
)
def test_a_torn_file_is_compiled_anew(tmp_path, said, settings, damage):
    said(compiled(tmp_path, settings))
    for kept in (tmp_path / "kept").rglob("*.jinja"):
        kept.write_bytes(damage(kept.read_bytes()))
    assert said(compiled(tmp_path, settings)) == ("toast!", 2)
    assert said(compiled(tmp_path, settings)) == ("toast!", 2)


@pytest.mark.parametrize("place", ["/proc/toastproof", "a file"])
def test_where_nothing_can_be_written_all_goes_on(tmp_path, said, settings, monkeypatch, place):
    (tmp_path / "a file").touch()
    monkeypatch.setattr("sys.pycache_prefix", str(Path(tmp_path, place)))
    assert said(compiled(tmp_path, settings)) == ("toast!", 1)
    assert said(compiled(tmp_path, settings)) == ("toast!", 2)
