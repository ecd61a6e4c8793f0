"""Pictures of what the command line tells. Matplotlib is imported when one is drawn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import bench, files, linalg
from .commands import Story
from .errors import BackendError
from .files import Matrix

INK, QUIET, GOOD, BAD, ACCENT = "#1f2933", "#9aa5b1", "#2a7f62", "#c0392b", "#2f6db3"
STYLE = {
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "figure.dpi": 130,
}
#: where errors of zero are drawn
FLOOR = 1e-18
#: so many ticks can be told apart, and so many spectra of a batch
FEW, BATCH_DRAWN = 12, 50
#: a spectrum that spans more than this is drawn on a logarithmic axis
DECADES = 100.0
#: a spectrum beyond this, or below its reciprocal, is drawn in a unit of its own: the axes of Matplotlib need some
#: powers of ten on both sides
FAR = 1e200


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise BackendError("--plot needs Matplotlib: pip install 'dualsvd[cli]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def check_target(path: Path) -> None:
    """Raise what drawing into `path` would raise, before anything is computed."""
    known = _matplotlib().figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        kinds = ", ".join(f".{kind}" for kind in sorted(known))
        raise files.FileError(f"{path}: a picture needs one of the extensions {kinds}")
    files.check_writable(path)


def _save(figure: Any, pyplot: Any, path: Path) -> None:
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing")  # of a file's name: a box stands for it
        figure.savefig(temporary)
    pyplot.close(figure)


def draw_stories(stories: Sequence[Story], path: Path) -> None:
    """One line of panels a matrix: its spectrum, the gradient of its norm, every comparison beside its tolerance."""
    pyplot = _matplotlib()
    with pyplot.rc_context(STYLE):
        rows = len(stories)
        heights = [max(3.2, 0.21 * sum(len(r.rows) + 1.6 for r in story.reports)) for story in stories]
        figure, panels = pyplot.subplots(
            rows,
            3,
            figsize=(14, sum(heights)),
            squeeze=False,
            layout="constrained",
            gridspec_kw={"width_ratios": [1.0, 1.15, 1.5], "height_ratios": heights},
        )
        for story, (left, middle, right) in zip(stories, panels):
            spectrum(left, story.singular_values, story.matrix)
            _gradient(figure, middle, story)
            _agreement(right, story)
        _save(figure, pyplot, path)


def spectrum(axes: Any, values: np.ndarray, matrix: Matrix) -> None:
    """Singular values; those that are zero to working accuracy stand on the floor, hollow."""
    eps, top = float(np.finfo(values.dtype).eps), float(np.max(values)) or 1.0
    unit = 1.0 if 1 / FAR < top < FAR else 10.0 ** max(math.floor(math.log10(top)), -307)  # a normal number
    values, top = np.atleast_2d(values).astype(np.float64) / unit, top / unit
    values = values.reshape(-1, values.shape[-1])[:BATCH_DRAWN]
    floor = top * values.shape[-1] * eps
    index = np.arange(1, values.shape[-1] + 1)
    for line in values:
        zero = line <= floor
        axes.plot(index, np.maximum(line, floor), "-", color=ACCENT, alpha=0.35, linewidth=1)
        axes.plot(index[~zero], line[~zero], "o", color=ACCENT, markersize=4)
        axes.plot(index[zero], np.full(zero.sum(), floor), "o", mfc="white", mec=BAD, markersize=4.5)
    if top > DECADES * np.min(values) and np.max(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * top)
    if (values <= floor).any():
        axes.axhline(floor, color=BAD, linewidth=0.8, linestyle=":")
        axes.annotate("zero to working accuracy", (index[0], floor), (2, 4), textcoords="offset points", color=BAD)
    if len(index) <= FEW:
        axes.set_xticks(index)
    axes.set_xlabel("i")
    axes.set_ylabel("singular value" if unit == 1 else f"singular value / {unit:.0e}")
    name = Path(matrix.name).name.encode("utf-8", "replace").decode()  # fonts have no glyph for half a surrogate pair
    axes.set_title(f"{name}  ({' x '.join(map(str, matrix.array.shape))})", parse_math=False)
    axes.grid(axis="y", color=QUIET, alpha=0.25)


def _gradient(figure: Any, axes: Any, story: Story) -> None:
    G = story.gradient
    G = np.abs(G) if np.iscomplexobj(G) else G
    G = G.reshape(-1, G.shape[-1])
    limit = float(np.max(np.abs(G))) or 1.0
    image = axes.imshow(G, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set_title("gradient of the spectral norm")
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.spines[:].set_visible(False)
    for axis, size in ((axes.xaxis, G.shape[1]), (axes.yaxis, G.shape[0])):
        if size <= FEW:
            axis.set_ticks(range(size))
    figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02).outline.set_visible(False)


def _agreement(axes: Any, story: Story) -> None:
    """Each comparison: a bar from rounding to its error, and a tick where its tolerance is."""
    labels, place = [], 0.0
    for report in story.reports:
        place += 0.8
        labels.append((place, report.subject.partition(" at (")[0].partition(",")[0], True))
        for r in report.rows:
            place += 1
            colour = GOOD if r.passed else BAD
            error = max(r.error, FLOOR) if np.isfinite(r.error) else 1.0
            axes.plot([FLOOR, error], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt", alpha=0.55)
            axes.plot(error, place, "o", color=colour, markersize=4)
            if r.tolerance:
                axes.plot(r.tolerance, place, "|", color=INK, markersize=8, markeredgewidth=1.4)
            labels.append((place, r.name, False))
        place += 0.5
    axes.set_xscale("log")
    axes.set_xlim(FLOOR, 10 * max([r.tolerance for report in story.reports for r in report.rows] + [1e-3]))
    axes.set_ylim(place + 0.5, 0)
    axes.set_yticks([y for y, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, heading) in zip(axes.get_yticklabels(), labels):
        tick.set_fontsize(7.5)
        tick.set_fontweight("bold" if heading else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=QUIET, alpha=0.25)
    axes.set_xlabel("error (dot) and what is allowed (tick)")
    verdict = "all ways agree" if story.passed else "not all ways agree"
    axes.set_title(verdict, color=GOOD if story.passed else BAD)


def draw_spectra(matrices: Sequence[Matrix], path: Path) -> None:
    """The singular values of each matrix, or batch, in a panel of its own."""
    pyplot = _matplotlib()
    with pyplot.rc_context(STYLE):
        size = (7, 3.6 * len(matrices))
        figure, panels = pyplot.subplots(len(matrices), figsize=size, squeeze=False, layout="constrained")
        for axes, matrix in zip(panels[:, 0], matrices):
            spectrum(axes, linalg.svdvals(matrix.array), matrix)
        _save(figure, pyplot, path)


def draw_bench(report: bench.Report, path: Path) -> None:
    """Speed against the size, the batch and the number of directions, and memory against the size."""
    pyplot = _matplotlib()
    with pyplot.rc_context(STYLE):
        figure, panels = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
        speeds(panels[0, 0], report)
        curves(panels[0, 1], report.batches, "batch", "ns a matrix", "full SVD: time a matrix against the batch")
        title = "pushforward: N directions over N times one"
        curves(panels[1, 0], report.directions, "directions N", "time / (N times one)", title, low=0.0)
        title = "peak memory over that of argument and results"
        curves(panels[1, 1], report.memory, "n", "peak / argument and results", title, low=0.0)
        _save(figure, pyplot, path)


def speeds(axes: Any, report: bench.Report) -> None:
    """Times faster than the best peer, a line a regime."""
    for name in dict.fromkeys(m.regime for m in report.measurements if m.regime in bench.REGIMES):
        points = [(m.size, m.ratio) for m in report.measurements if m.regime == name and m.peer]
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3.5, linewidth=1.4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({m.size for m in report.measurements})
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.grid(color=QUIET, alpha=0.25)
    axes.set_xlabel("n (matrices n x n)")
    axes.set_ylabel("times faster")
    axes.set_title("against the best of the other libraries")
    axes.set_ylim(top=1500)  # room for the names of all regimes
    legend(axes, fontsize=6.5, ncols=2, loc="upper right")


def legend(axes: Any, **how: Any) -> None:
    """The names of the lines, if there are any: small sizes leave out what begins at larger ones."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, **how)


def curves(axes: Any, lines: Sequence[Any], x: str, y: str, title: str, low: float | None = None) -> None:
    """A line each, on a logarithmic axis of x."""
    for line in lines:
        axes.plot(line.x, line.y, marker="o", markersize=3.5, linewidth=1.4, label=line.name)
    axes.set_xscale("log")
    if low is None:
        axes.set_yscale("log")
    else:
        axes.set_ylim(low, 1.25 * max([1.0, *(max(line.y) for line in lines)]))
    axes.grid(color=QUIET, alpha=0.25)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    legend(axes, fontsize=7)
