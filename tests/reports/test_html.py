from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from pathlib import Path

import pytest

from reports.build import write

TEMPLATES = Path(__file__).parents[2] / "reports" / "templates"


def test_the_policy_allows_our_script_and_no_other(run_folder):
    page = write(run_folder).read_text()
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_the_script_is_small():
    """Most of it sorts and filters the table of a sweep."""
    assert len((TEMPLATES / "page.js").read_bytes()) < 6000


def _luminance(colour):
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _variables(dark):
    text = (TEMPLATES / "chart.css").read_text() + (TEMPLATES / "page.css").read_text()
    light_text, dark_text = text.split("@media (prefers-color-scheme: dark)", 1)
    pairs = re.findall(r"--([\w-]+): (#\w{6})", light_text)
    if dark:
        pairs += re.findall(r"--([\w-]+): (#\w{6})", dark_text.split("* { box-sizing")[0])
    return {name: tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) for name, value in pairs}


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_both_modes(dark):
    v = _variables(dark)
    for page in (v["page"], v["surface"]):
        assert _contrast(v["ink"], page) >= 7
        assert _contrast(v["muted"], page) >= 4.5
        assert _contrast(v["accent"], page) >= 4.5
    assert _contrast(v["warn"], v["warn-page"]) >= 4.5
    assert _contrast(v["bad"], v["bad-page"]) >= 4.5
    assert _contrast(v["warn"], v["surface"]) >= 4.5
    for i in range(8):
        assert _contrast(v[f"c{i}"], v["surface"]) >= 3


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.68, 0.69, 0.85, 1.0])
def test_numbers_in_a_matrix_can_be_read(dark, share):
    v = _variables(dark)
    cell = tuple(s + (h - s) * share for s, h in zip(v["soft"], v["heat"], strict=True))
    assert _contrast(v["heat-ink"] if share > 0.68 else v["heat-low"], cell) >= 4.5
