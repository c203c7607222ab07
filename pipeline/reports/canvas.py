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
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "oo", "++++")
INK, SOFT, GROUND = "#22252a", "#8b9099", "#fefefe"
WIDTH, HEIGHT = 4.2, 3.1
"""Of most figures, in inches: three side by side on a page have text of its size."""

_LEGEND_ROW = 0.17  # inches

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
        mentions: mixtures that the caption names, in its order: the words that hold the name, and the name.
    """

    name: str
    caption: str
    svg: str
    pdf: bytes
    mentions: tuple[tuple[str, str], ...] = ()


def colour_of(k: int) -> str:
    """The k-th system's colour in every figure; from the ninth on they come again, with other lines, markers and patterns."""
    return COLOURS[k % len(COLOURS)]


def marker_of(k: int) -> str:
    """The k-th system's marker in every figure."""
    return MARKERS[_turn(k) % len(MARKERS)]


def line_of(k: int) -> Any:
    """The k-th system's line style in every figure."""
    return LINES[_turn(k) % len(LINES)]


def hatch_of(k: int) -> str:
    """The pattern of the k-th system's areas in every figure: none for the first eight, another for each further eight."""
    return HATCHES[k // len(COLOURS) % len(HATCHES)]


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
def canvas(name: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Axes, Callable[..., Drawing]]]:
    """Axes in the house style, and the function that turns them into a Drawing."""
    import matplotlib as mpl  # heavy, and needed by few commands
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():  # type: ignore[dict-item]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # in the PDF's font; browsers have their own
        figure = Figure(figsize=(width, height))
        yield figure.add_subplot(), lambda caption, *mentions: Drawing(name, caption, _svg(figure, name), _pdf(figure), mentions)


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
    """The SVG with CSS variables for its colours: ``--ink``, ``--soft``, ``--ground`` and ``--series-1`` to ``--series-8``."""
    names = {INK: "--ink", SOFT: "--soft", GROUND: "--ground"} | {colour: f"--series-{k}" for k, colour in enumerate(COLOURS, 1)}
    return re.sub("|".join(names), lambda found: f"var({names[found[0]]})", svg)


def line_style(k: int, system: object) -> dict[str, Any]:
    """How the k-th system's lines look in every figure."""
    return {"color": colour_of(k), "linestyle": line_of(k), "label": str(system)}


def area_style(k: int) -> dict[str, Any]:
    """How the k-th system's areas look in every figure; an SVG fills patterns with the face's colour, so lines need another."""
    hatch = hatch_of(k)
    return {"facecolor": colour_of(k), "edgecolor": INK if hatch else colour_of(k), "hatch": hatch}


def quantity(label: str) -> str:
    """An axis label without its unit."""
    return label.removesuffix(", dB")


def add_legend(axes: Axes) -> None:
    """Names above the axes, where nothing is drawn; the figure grows by what they need beyond one row."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    labels = short_labels(labels, 40)
    room = 12.9 * figure.get_figwidth() / _panels(axes)
    columns = next((columns for columns in (3, 2) if columns * (max(map(len, labels)) + 6) <= room), 1)
    axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, borderaxespad=0.2)
    if _panels(axes) == 1:
        figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * (-(-len(labels) // columns) - 1))


def _panels(axes: Axes) -> int:
    """How many axes stand side by side in a figure."""
    place = axes.get_subplotspec()
    return 1 if place is None else place.get_gridspec().ncols
