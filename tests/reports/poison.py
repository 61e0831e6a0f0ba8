"""Headers full of markup, and whether a page shows them as text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from eval.records import Run

EVIL = "\"'><evil onload=alert(1)></title></pre></svg></script><script>alert(1)</script><!--{{ 7 * 7 }}&"
PLAIN = ("norm", "headline", "text", "needs", "started", "finished", "status")  # of a fixed vocabulary, or read by us


class Elements(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.comments = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def harmless(page: str, *own: str) -> bool:
    """Whether a page has no element, attribute, comment or address but its `own`; and it does show the text."""
    seen = Elements(page)
    addresses = [value or "" for name, value in seen.attributes if name in ("src", "href", "xlink:href")]
    return (
        "evil" not in seen.tags
        and seen.tags.count("script") <= 1
        and seen.comments == 0
        and not any(name.startswith("on") for name, _ in seen.attributes)
        and all(address in own or address.startswith(("data:", "#")) for address in addresses)
        and "&lt;evil" in page
        and "49&" not in page
    )


def evil(value: Any, key: str = "") -> Any:
    """A header in which every text, and every key that is not ours, ends with something evil."""
    if isinstance(value, dict):
        free = key in ("versions", "config", "fields", "note")
        return {(f"{k}{EVIL}" if free else k): evil(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(item, key) for item in value]
    return f"{value}{EVIL}" if isinstance(value, str) and key not in PLAIN else value


def poisoned(folder: Path) -> Path:
    """A run whose header is poisoned but for names that its records share, which are evil from the beginning."""
    run = Run.read(folder)
    for field in ("title", "command", "overrides", "config", "versions", "commit", "device", "data", "warnings"):
        setattr(run, field, evil(getattr(run, field), field))
    for part in (*run.models, *run.attacks):
        part |= {key: evil(value, key) for key, value in part.items() if key != "name"}
    run.write(folder)
    return folder
