"""A report's page, read for the tests: its tables, scripts, text and addresses; and numbers as they are printed."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np


class Page(HTMLParser):
    """The tables of a page by their label, its scripts, its texts, the addresses it asks for and the texts of its images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._label = self._script = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.addresses += [str(given[name]) for name in ("src", "href", "xlink:href") if name in given]
        self.images += [given.get("alt") or ""] if tag == "img" else []
        if given.get("class") == "scroll":
            self._label = str(given["aria-label"])
            self.tables[self._label] = []
        if tag == "tr" and self._label:
            self.tables[self._label].append([])
        if tag in ("td", "th") and self._label:
            self.tables[self._label][-1].append("")
        if tag == "script":
            self._script = given.get("id") or f"script {len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        self._label = "" if tag == "table" else self._label
        self._script = "" if tag == "script" else self._script
        self._open = self._open[:-1]

    def handle_data(self, text: str) -> None:
        if self._script:
            self.scripts[self._script] += text
        elif self._label and self.tables[self._label] and self.tables[self._label][-1]:
            self.tables[self._label][-1][-1] += text.strip()
        self.text += text


def read_page(folder: Path) -> Page:
    """The page of a report's folder."""
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def number(text: str) -> float:
    """A printed number; NaN for a dash."""
    return np.nan if text == "–" else float(text.replace("−", "-").removesuffix("%").replace("< ", ""))
