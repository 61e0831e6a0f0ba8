"""Templates are compiled once, where that can be kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reports import html

NAME = "parts.html.j2"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "__pycache__"
    monkeypatch.setattr(html._ENVIRONMENT.bytecode_cache, "directory", str(folder))
    monkeypatch.setattr(html._ENVIRONMENT, "cache", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return folder


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> None:
        raise AssertionError("it was compiled again")

    monkeypatch.setattr(html._ENVIRONMENT, "compile", compiled)


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_template_is_compiled_once(kept, monkeypatch):
    html._ENVIRONMENT.get_template(NAME)
    assert [path.name.split(".")[1] for path in kept.iterdir()] == [sys.implementation.cache_tag]
    html._ENVIRONMENT.cache.clear()
    forbid(monkeypatch)
    html._ENVIRONMENT.get_template(NAME)


def test_a_template_that_was_changed_is_compiled_again(kept, monkeypatch):
    html._ENVIRONMENT.get_template(NAME)
    html._ENVIRONMENT.cache.clear()
    source = html._TEMPLATES.get_source(html._ENVIRONMENT, NAME)
    monkeypatch.setattr(html._TEMPLATES, "get_source", lambda *_: (source[0] + " ", *source[1:]))
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match="compiled again"):
        html._ENVIRONMENT.get_template(NAME)


@pytest.mark.parametrize("why", ["no folder", "as Python does"])
def test_where_nothing_can_be_kept_pages_are_written_all_the_same(kept, monkeypatch, why):
    if why == "no folder":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert html._ENVIRONMENT.get_template(NAME)
    assert not kept.is_dir()
