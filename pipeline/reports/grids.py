"""A table of text, and its forms: plain text, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {"\\": r"\textbackslash{}", "−": "$-$", "±": r"$\pm$", "≤": r"$\le$", "–": "--", "~": r"\textasciitilde{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"} | {"^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$"}


@dataclass(frozen=True)
class Grid:
    """A table of cells as they are printed.

    Attributes:
        headings: one per column.
        rows: text and formatted numbers; the first cell of a row names it.
        series: number of the colour that marks each row, 0 for none.
        quiet: whether a row is context, shown in grey.
        best: row and column of the cells that hold the best value of their column.
        alike: row and column of the cells whose systems cannot be told apart from the best.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    series: tuple[int, ...] = ()
    quiet: tuple[bool, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    alike: frozenset[tuple[int, int]] = frozenset()

    def marked(self) -> list[tuple[tuple[str, ...], int, bool]]:
        """Every row with its series and whether it is quiet."""
        count = len(self.rows)
        return list(zip(self.rows, self.series or (0,) * count, self.quiet or (False,) * count, strict=True))

    def mark_of(self, row: int, column: int) -> str:
        """``best``, ``alike`` or nothing."""
        if (row, column) in self.best:
            return "best"
        return "alike" if (row, column) in self.alike else ""


def as_text(grid: Grid) -> str:
    """Aligned columns for a terminal: the first left-aligned, the others right-aligned."""
    lines = [grid.headings, *grid.rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(grid.headings))]
    return "\n".join(_text_line(line, widths) for line in lines) + "\n"


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    return "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]).rstrip()


def as_markdown(grid: Grid) -> str:
    """A GitHub table."""
    rule = [":--", *["--:"] * (len(grid.headings) - 1)]
    lines = [_markdown_line(grid.headings), "|" + "|".join(rule) + "|", *map(_markdown_line, grid.rows)]
    return "\n".join(lines) + "\n"


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_escape, cells)) + " |"


def markdown_escape(text: str) -> str:
    """Text that Markdown shows literally, in a table cell or a paragraph."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)


def as_latex(grid: Grid) -> str:
    """A tabular with the rules of the package booktabs."""
    columns = "l" + "r" * (len(grid.headings) - 1)
    body = [_latex_line(row) for row in grid.rows]
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_line(grid.headings), r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    line = " & ".join(map(latex_escape, cells)) + r" \\"
    return f"{{}}{line}" if line[0] in "[*" else line  # otherwise LaTeX takes it as an argument of the preceding \\


def latex_escape(text: str) -> str:
    """Text that LaTeX prints literally."""
    return "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))
