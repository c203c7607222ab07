"""Tables as text, Markdown and LaTeX."""

from __future__ import annotations

from pipeline.reports import (
    grids,
)


def test_cells_survive_markdown_and_latex() -> None:
    grid = grids.Grid(("a_b", "%"), (("<x> | y", "−1 & {2}"),))
    assert grids.as_markdown(grid).splitlines()[2] == r"| &lt;x&gt; \| y | −1 &amp; {2} |"
    assert r"$<$x$>$ | y & $-$1 \& \{2\} \\" in grids.as_latex(grid)
    assert r"{}[a] & b \\" in grids.as_latex(grids.Grid(("x", "y"), (("[a]", "b"),)))
    assert grids.as_text(grid).splitlines() == ["a_b             %", "<x> | y  −1 & {2}"]
