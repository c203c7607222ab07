"""How every figure looks, and how it becomes a file.

Every figure is drawn once and kept as SVG and PDF. The same input gives the same bytes: no dates, no random ids. Text in the SVG
stays text, and ``themed`` replaces the colours by CSS variables, so that a page can show it on a light or a dark background.
Colours are Okabe and Ito's, which colour-blind readers can tell apart, and two more; line styles and markers differ as well.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#8c6d31")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
INK, SOFT = "#22252a", "#8b9099"

STYLE = {
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100.0,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.alpha": 0.25,
    "grid.color": SOFT,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a system's name may hold a dollar sign
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: file name without its ending.
        caption: one sentence that says what is drawn.
        svg: an ``<svg>`` element.
        pdf: the same as a PDF file.
    """

    name: str
    caption: str
    svg: str
    pdf: bytes


def colour_of(k: int) -> str:
    """The k-th system's colour in every figure; from the ninth on they come again, with other lines and markers."""
    return COLOURS[k % len(COLOURS)]


def marker_of(k: int) -> str:
    """The k-th system's marker in every figure."""
    return MARKERS[_turn(k) % len(MARKERS)]


def line_of(k: int) -> Any:
    """The k-th system's line style in every figure."""
    return LINES[_turn(k) % len(LINES)]


def _turn(k: int) -> int:
    """Moves on by one each time that all colours have been used, so that no two of 64 systems look alike."""
    return k + k // len(COLOURS)


def short_labels(names: Sequence[object], length: int = 28) -> list[str]:
    """Names short enough for a figure, still different: long ones lose their middle, and get numbers if need be."""
    head, tail = length // 2, length - length // 2 - 1
    texts = [str(name) for name in names]
    cut = [text if len(text) <= length else f"{text[:head]}…{text[-tail:]}" for text in texts]
    return [label if cut.count(label) == 1 else f"{number}: {label}" for number, label in enumerate(cut, 1)]


@contextmanager
def canvas(name: str, width: float = 4.8, height: float = 3.4) -> Iterator[tuple[Axes, Callable[[str], Drawing]]]:
    """Axes in the house style, and the function that turns them into a Drawing."""
    import matplotlib as mpl  # heavy, and needed by few commands
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # in the PDF's font; browsers have their own
        figure = Figure(figsize=(width, height))
        yield figure.add_subplot(), lambda caption: Drawing(name, caption, _svg(figure, name), _pdf(figure))


def _svg(figure: Figure, name: str) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    # Several figures share one page: their ids must differ.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg).strip() + "\n"


def _pdf(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
    return file.getvalue()


def themed(svg: str) -> str:
    """The SVG with CSS variables for its colours: ``--ink``, ``--soft`` and ``--series-1`` to ``--series-8``."""
    names = {INK: "--ink", SOFT: "--soft"} | {colour: f"--series-{k}" for k, colour in enumerate(COLOURS, 1)}
    return re.sub("|".join(names), lambda found: f"var({names[found[0]]})", svg)


def line_style(k: int, system: object) -> dict[str, Any]:
    """How the k-th system's lines look in every figure."""
    return {"color": colour_of(k), "linestyle": line_of(k), "label": str(system)}


def quantity(label: str) -> str:
    """An axis label without its unit."""
    return label.removesuffix(", dB")


def add_legend(axes: Axes) -> None:
    """Names above the axes, where nothing is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        labels = short_labels(labels, 44)
        columns = next((columns for columns in (3, 2) if columns * (max(map(len, labels)) + 6) <= 62), 1)
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, borderaxespad=0.2)
