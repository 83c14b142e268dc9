"""Make the pictures of docs/story.md, and the numbers in it, from the code that the page shows.

    python docs/make_story.py      # about five minutes on one core

The page's Python blocks are run unchanged; the variables that they set are measured, drawn, and the results kept in
story.json. A number in the page is followed by a comment that names its result, ``0.35<!-- learned_c -->``, and is
rewritten with the same number of decimals. The stills of the slider stand between ``<!-- stills -->`` and ``<!--
/stills -->``.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Ellipse
from scipy.linalg import subspace_angles

from latens import evaluation

HERE = Path(__file__).parent
PAGE, RESULTS, PICTURES = HERE / "story.md", HERE / "story.json", HERE / "images" / "story"

# Okabe & Ito (2008), shifted to one lightness, so that they are equally visible on white and on black
INK, AE_ORANGE, VAE_BLUE, PCA_GREEN = "#757b84", "#d55e00", "#1a80bf", "#00936b"
CLASSES = ["#1a80bf", "#d55e00", "#00936b", "#b8689a", "#a87500", "#2f92cc", "#7a6fd8", "#8c8300", "#c2486f", "#757b84"]
INSIDE_95 = 5.991**0.5  # radius of the disc with 95 % of N(0, I) in the plane
STYLE = {
    "svg.fonttype": "path", "svg.hashsalt": "story", "font.size": 10, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.titlesize": 10, "axes.titlelocation": "left", "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
    "axes.facecolor": "none", "savefig.transparent": True, "savefig.dpi": 110,
}  # fmt: skip

# The page


def code_of(text: str) -> list[str]:
    """The Python blocks of a page. They are marked "py", because a build of the site runs "python" blocks and these
    take minutes."""
    return re.findall(r"```py\n(.*?)```", text, flags=re.DOTALL)


def with_numbers(text: str, results: Mapping[str, float]) -> str:
    """The page with each marked number replaced by its result, with the same number of decimals.

    >>> with_numbers("c = 0.30<!-- c -->, 1,000<!-- rows --> rows", {"c": 0.3518, "rows": 1437})
    'c = 0.35<!-- c -->, 1,437<!-- rows --> rows'
    """

    def number(match: re.Match[str]) -> str:
        decimals = len(match[1].partition(".")[2])
        return f"{results[match[2]]:,.{decimals}f}<!-- {match[2]} -->".replace("-", "−", results[match[2]] < 0)

    return re.sub(r"(−?\d[\d,]*(?:\.\d+)?)<!-- (\w+) -->", number, text)


def stills(results: Mapping[str, float]) -> str:
    """The stills of the slider, one after another, each with a description."""
    lines = []
    for key in (key for key in results if key.startswith("sweep_rate_")):
        c = key.removeprefix("sweep_rate_").replace("_", ".")
        rate, error = results[key], results[key.replace("rate", "error")]
        words = f"c = {c}: rate {rate:.1f} nats, squared error {error:.1f}"
        lines.append(f"![{words}; ten digits, the same decoded, and codes in the plane](images/story/c-{c}.svg)")
    return "\n".join(lines)


def with_stills(text: str, results: Mapping[str, float]) -> str:
    """The page with its stills between their marks."""
    between = r"(<!-- stills -->\n).*(<!-- /stills -->)"
    return re.sub(between, lambda marks: f"{marks[1]}\n{stills(results)}\n\n{marks[2]}", text, flags=re.DOTALL)


# Measures


def squared_error(rows: Any, again: Any) -> float:
    """The mean over rows of |x - x'|^2."""
    return float(((np.asarray(rows) - np.asarray(again)) ** 2).sum(1).mean())


def angle(model: Any, pca: Any) -> float:
    """The largest principal angle between the planes of a linear decoder and of PCA, in degrees."""
    weight = model.likelihood.network.weight.detach().numpy()
    return float(np.degrees(subspace_angles(weight, pca.components_.T)[0]))


def eigenvalues(s: dict[str, Any]) -> np.ndarray:
    """The variances of the digits along their principal directions, in the unit of c."""
    unit = float(s["vae"].model_.likelihood.unit)
    return np.linalg.eigvalsh(np.cov(s["x"].T, bias=True)) / unit**2


def prices(exchange: Mapping[float, tuple[float, float]]) -> dict[str, float]:
    """The slopes of the rate between neighbouring values of c, and -1 / 2c at their geometric mean."""
    found, kept = {}, list(exchange.items())
    for (low, (rate, error)), (high, (next_rate, next_error)) in pairwise(kept):
        found[name("slope", low)] = (rate - next_rate) / (error - next_error)
        found[name("price", low)] = -1 / (2 * (low * high) ** 0.5)
    return found


def name(what: str, c: float) -> str:
    """The name of a result at c: letters, digits and underscores."""
    return f"{what}_{c:g}".replace(".", "_")


def measure(s: dict[str, Any]) -> dict[str, float]:
    """The numbers of the page, from the variables that its code set; variables that only pictures need are added to
    these."""
    x, held_out, curve, pca = s["x"], s["held_out"], s["curve"], s["PCA"](1).fit(s["curve"])
    s["angles"] = {n: angle(s["linear_autoencoder"](n), s["pca"]) for n in (1, 2, 5, 10, 20, 50)}
    s["angles"][100] = angle(s["linear"], s["pca"])
    s["line_again"] = pca.inverse_transform(pca.transform(curve))
    s["losses"] = {c: -vae.evaluate(held_out, k=1).elbo for c, vae in s["sweep"].items()}
    s["loss"] = -s["vae"].evaluate(held_out, k=1).elbo
    found = {
        "rows": len(x) + len(held_out), "held_out": len(held_out), "fitted": len(x), "angle": s["angles"][100],
        "angle_first": s["angles"][1], "line_error": squared_error(curve, s["line_again"]),
        "curve_error": squared_error(curve, s["curve_again"]),
    }  # fmt: skip
    for c, vae in s["sweep"].items():
        found[name("sweep_rate", c)], found[name("sweep_error", c)] = s["rate_and_error"](vae, x)
        found[name("sweep_held_out", c)] = s["rate_and_error"](vae, held_out)[1]
    found["memory"] = found["sweep_rate_0_001"] - found["sweep_rate_0_3"]
    found |= prices(s["exchange"])
    found |= {
        "learned_c": s["c"], "deep_c": float(s["deep_vae"].model_.likelihood.observation_variance),
        "deep_loss": -s["found"].elbo, "deep_loss_0_1": -s["deep_sweep"][0.1].evaluate(held_out, k=1).elbo,
        "ae_gap_codes": s["ae_gap"].value, "vae_gap_codes": s["vae_gap"].value,
        "null_gap_codes": s["vae_gap"].null_high,
    }  # fmt: skip
    found |= {f"{model}_roughness": smooth.roughness for model, smooth in s["smooth"].items()}
    found |= {"active_learned": s["found"].active_units, "active_3": s["tight"].active_units,
              "eigenvalues_3": int((eigenvalues(s) > 3).sum())}  # fmt: skip
    return found | compared(s)


def compared(s: dict[str, Any]) -> dict[str, float]:
    """The table at the end: PCA, autoencoder and VAE with 16 dimensions."""
    x, held_out = s["x"], s["held_out"]
    pca, varying = evaluation.PCABaseline(16).fit(x), x.std(0) > 0
    density = evaluation.PCABaseline(16).fit(x[:, varying])  # as for the VAE, which has no density of constant pixels
    random = pca.decode(np.random.default_rng(0).normal(size=(500, 16)))
    pictures = {"held_out": held_out, "pca": random, "ae": s["nonsense"], "vae": s["new"]}
    return {f"{name}_nearest": s["nearest"](each) for name, each in pictures.items()} | {
        "pca_rmse": (squared_error(held_out, pca.reconstruct(held_out)) / x.shape[1]) ** 0.5,
        "ae_rmse": s["deep_ae"].evaluate(held_out).rmse, "vae_rmse": s["found"].rmse,
        "pca_nll": float(density.nll(held_out[:, varying]).mean()), "vae_nll": s["found"].nll,
    }  # fmt: skip


# Pictures


def drawn(values: Any, colour: str) -> np.ndarray:
    """Digits in one colour on a faint tile, ``[N, 8, 8, 4]``."""
    ink = np.clip(np.asarray(values, dtype=float).reshape(-1, 8, 8) / 16, 0, 1)
    rgb = np.broadcast_to(matplotlib.colors.to_rgb(colour), (*ink.shape, 3))
    return np.concatenate([rgb, (0.07 + 0.93 * ink)[..., None]], -1)


def montage(ax: Axes, tiles: np.ndarray, columns: int, title: str = "") -> None:
    """Drawn digits side by side, with a gap of a pixel."""
    sheet = np.zeros((9 * -(-len(tiles) // columns) - 1, 9 * columns - 1, 4))
    for i, tile in enumerate(tiles):
        top, left = 9 * (i // columns), 9 * (i % columns)
        sheet[top : top + 8, left : left + 8] = tile
    ax.imshow(sheet, interpolation="none")
    ax.set_axis_off()
    ax.set_title(title)


def numerals(ax: Axes, codes: np.ndarray, labels: np.ndarray, size: float = 26) -> None:
    """Draw codes in the plane; each is shown as its digit."""
    for k in range(10):
        ax.scatter(*codes[labels == k].T, marker=f"${k}$", s=size, color=CLASSES[k], linewidths=0)


def plane(ax: Axes, reach: float | None = None, title: str = "", *, prior: bool = True) -> None:
    """Set up axes for codes in the plane, with equal scales and the disc that holds 95 % of the prior."""
    note = "     (dashed: 95 % of the prior)" if prior else ""
    ax.set(xlabel=f"$z_1${note}", ylabel="$z_2$", aspect="equal", title=title)
    if prior:
        ax.add_patch(Circle((0, 0), INSIDE_95, fill=False, color=INK, linestyle=(0, (4, 3)), linewidth=1.2, zorder=3))
    if reach is not None:
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))


def subspace(s: dict[str, Any]) -> None:
    fig, ax = plt.subplots(figsize=(5.6, 2.7))
    ax.plot(list(s["angles"]), list(s["angles"].values()), "o-", color=AE_ORANGE)
    ax.set(xscale="log", yscale="log", xlabel="passes over the data", ylabel="largest angle, degrees")
    ax.set_title("Between the linear autoencoder's plane and PCA's")
    ax.set_xticks(list(s["angles"]), [str(n) for n in s["angles"]])
    ax.set_yticks([0.1, 1, 10, 90], ["0.1°", "1°", "10°", "90°"])
    ax.minorticks_off()


def bend(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.3), sharex=True, sharey=True)
    line = s["line_again"], "PCA: a straight line", PCA_GREEN
    bent = s["curve_again"], "autoencoder: a curve", AE_ORANGE
    for ax, (again, title, colour) in zip(axes, (line, bent)):
        ax.scatter(*s["curve"].T, s=5, color=INK, alpha=0.45, linewidths=0, rasterized=True)
        for row, other in list(zip(s["curve"], again))[::12]:
            ax.plot(*zip(row, other), color=colour, linewidth=0.8)
        ax.scatter(*again.T, s=6, color=colour, linewidths=0, rasterized=True)
        ax.set(title=title, xlabel="first column", aspect="equal")
    axes[0].set_ylabel("second column")


def ae_codes(s: dict[str, Any]) -> None:
    fig, ax = plt.subplots(figsize=(5.6, 3.9))
    numerals(ax, s["ae_codes"], s["labels"])
    ax.add_patch(Circle((0, 0), INSIDE_95, fill=False, color=INK, linewidth=1.6, zorder=3))
    ax.annotate("95 % of N(0, I)", (-1.7, 1.7), (-25, 19), arrowprops={"arrowstyle": "-", "color": INK})
    plane(ax, prior=False)


def nonsense(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(2, 1, figsize=(6.2, 2.7))
    montage(axes[0], drawn(s["held_out"][:24], INK), 12, "held-out digits")
    montage(axes[1], drawn(s["nonsense"][:24], AE_ORANGE), 12, "random codes, decoded by an autoencoder")


def bargain(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(3, 2, figsize=(6.2, 5.6), sharex="col", width_ratios=[1.5, 1])
    rows = s["curve"][10::45]
    words = ["small", "learned", "large"]
    for (left, right), vae, word in zip(axes, s["bargains"].values(), words):
        value = float(vae.model_.likelihood.observation_variance)
        with torch.no_grad():
            q = vae.model_.encode(torch.tensor(rows, dtype=torch.float32))
        grid = np.linspace(-4.2, 4.2, 61)
        left.fill_between(grid, np.exp(-(grid**2) / 2), color=INK, alpha=0.22, linewidth=0)
        for m, v in zip(q.mean.ravel().tolist(), q.variance.ravel().tolist()):
            grid = m + v**0.5 * np.linspace(-4, 4, 31)
            left.plot(grid, np.exp(-((grid - m) ** 2) / (2 * v)), color=VAE_BLUE, linewidth=1)
        left.set(yticks=[], title=f"c = {value:.2g} ({word})", ylim=(0, 1.05))
        left.spines["left"].set_visible(False)
        right.scatter(*s["curve"][::3].T, s=3, color=INK, alpha=0.35, linewidths=0, rasterized=True)
        path = vae.inverse_transform(np.linspace(-3, 3, 81)[:, None].astype(np.float32))
        right.plot(*np.asarray(path).T, color=VAE_BLUE, linewidth=2)
        right.plot(*np.asarray(vae.reconstruct(rows)).T, "o", color=VAE_BLUE, markersize=4)
    axes[0, 0].text(4.2, 0.14, "grey: the prior", ha="right", fontsize=9)
    axes[0, 0].set_title(axes[0, 0].get_title(loc="left") + ": codes of 11 rows")
    axes[0, 1].set_title("what they decode to")
    axes[2, 0].set_xlabel("code z")
    axes[2, 1].set_xlabel("first column")


def still(s: dict[str, Any], c: float, results: Mapping[str, float]) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.3), width_ratios=[1, 1.1])
    vae, ten = s["sweep"][c], [int(np.flatnonzero(s["labels"] == k)[0]) for k in range(10)]
    again = np.asarray(vae.reconstruct(s["held_out"]))[ten]
    rows, again = drawn(s["held_out"][ten], INK), drawn(again, VAE_BLUE)
    title = f"c = {c:g}\nrows, and the same decoded"
    montage(axes[0], np.concatenate([rows[:5], again[:5], rows[5:], again[5:]]), 5, title)
    with torch.no_grad():
        q = vae.model_.encode(torch.tensor(s["held_out"], dtype=torch.float32))
    for m, v in list(zip(q.mean.numpy(), q.variance.numpy()))[:80]:
        axes[1].add_patch(Ellipse(m, *(2 * v**0.5), color=VAE_BLUE, alpha=0.12, linewidth=0, rasterized=True))
    numerals(axes[1], q.mean.numpy(), s["labels"], 14)
    rate, error, held_out = (results[name(f"sweep_{what}", c)] for what in ("rate", "error", "held_out"))
    reach = max(3.6, 1.08 * float(q.mean.abs().max()))
    plane(axes[1], reach, f"rate {rate:.1f} nats, squared error\n{error:.1f} (held-out rows {held_out:.1f})")


def exchange(s: dict[str, Any]) -> None:
    fig, ax = plt.subplots(figsize=(5.8, 3.4))
    pairs = {c: (error, rate) for c, (rate, error) in s["exchange"].items()}
    ax.plot(*zip(*pairs.values()), "o", color=VAE_BLUE)
    for c, (error, rate) in pairs.items():
        step = min(9.0, 14 * c) * np.array([-1, 1])
        ax.plot(error + step, rate - step / (2 * c), color=VAE_BLUE, linewidth=1.2, alpha=0.7)
        ax.annotate(f"c = {c:g}", (error, rate), (7, 4), textcoords="offset points", fontsize=9)
    ax.set(xlabel="squared error per row, in pixel variances", ylabel="rate, nats", ylim=(-2, None), xlim=(0, None))
    ax.text(0.98, 0.95, "each line has the slope −1/(2c)", transform=ax.transAxes, ha="right", va="top", color=VAE_BLUE)


def learned(s: dict[str, Any]) -> None:
    fig, ax = plt.subplots(figsize=(5.6, 2.9))
    shown = {c: value for c, value in s["losses"].items() if c >= 0.1}
    ax.plot(list(shown), list(shown.values()), "o-", color=VAE_BLUE)
    ax.plot(s["c"], s["loss"], "*", color=AE_ORANGE, markersize=15)
    ax.annotate("c learned", (s["c"], s["loss"]), (0, -16), ha="center",
                textcoords="offset points", color=AE_ORANGE)
    ax.set_xscale("log")
    ax.set_xticks(list(shown), [f"{c:g}" for c in shown])
    ax.minorticks_off()
    ax.set(xlabel="c, held fixed", ylabel="−ELBO of held-out rows, nats")
    ax.margins(y=0.15)


def a_draw(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(1, 3, figsize=(6.6, 2.7), width_ratios=[1, 1, 0.62])
    noise, z, chosen = s["noise"].numpy(), s["z"].numpy(), [0, 1, 2, 3, 5]
    reach = 3.2 * float(s["h"].max()) ** 0.5
    for ax, points, title in zip(axes, (noise, z), ("noise from N(0, I)", "z = g(x) + √h(x) · noise")):
        ax.scatter(*points.T, s=6, color=INK, alpha=0.6, linewidths=0)
        plane(ax, 3.2, title, prior=False)
        for i, k in enumerate(chosen):
            ax.scatter(*points[k], marker=f"${'abcde'[i]}$", s=60, color=VAE_BLUE)
    (left, low), = s["g"].tolist()
    axes[1].set(xlim=(left - reach, left + reach), ylim=(low - reach, low + reach))
    axes[0].set(xlabel="first number", ylabel="second number")
    pictures = drawn(s["held_out"][:1], INK), drawn(s["pictures"][chosen], VAE_BLUE)
    montage(axes[2], np.concatenate(pictures), 2, "x, decoded a to e")
    for i, letter in enumerate("xabcde"):
        axes[2].text(9 * (i % 2), 9 * (i // 2) + 1.2, letter, color=INK, fontsize=8)


def fill(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(6.6, 3.4))
    numerals(axes[0], s["vae_codes"], s["labels"])
    plane(axes[0], 1.08 * float(abs(s["vae_codes"]).max()), "codes of held-out digits")
    steps = np.linspace(-2.2, 2.2, 11)
    grid = np.stack(np.meshgrid(steps, steps[::-1]), -1).reshape(-1, 2).astype(np.float32)
    montage(axes[1], drawn(s["vae"].inverse_transform(grid), VAE_BLUE), 11, "the plane from −2.2 to 2.2, decoded")


def between(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(4, 1, figsize=(6.2, 3.6))
    for pair in range(2):
        for ax, (name, model, colour) in zip(
            axes[2 * pair :], [("autoencoder", s["ae"], AE_ORANGE), ("VAE", s["vae"], VAE_BLUE)]
        ):
            montage(ax, drawn(s["lines"](model)[:, s["pairs"][pair]], colour), 9)
            ax.text(-2, 4, name, ha="right", va="center", color=colour)


def collapse(s: dict[str, Any]) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.7), sharey=True)
    for ax, found, title in zip(axes, (s["found"], s["tight"]), ("c learned", "c = 3")):
        rates, active = np.sort(found.rate_per_dimension)[::-1], found.active_units
        ax.bar(np.arange(1, 17), rates, color=VAE_BLUE)
        ax.set(title=f"{title}: {active} of 16 active", xlabel="dimension, by rate")
        ax.set_xticks([1, 4, 8, 12, 16])
        if active < 16:
            ax.annotate("", (active + 0.6, 0.12), (16.4, 0.12), arrowprops={"arrowstyle": "|-|", "color": INK})
            ax.text((active + 17) / 2, 0.2, "collapsed: no rate", ha="center")
    axes[0].set_ylabel("rate, nats")


def generation(s: dict[str, Any]) -> None:
    fig, ax = plt.subplots(figsize=(6.2, 1.8))
    montage(ax, drawn(s["new"][:60], VAE_BLUE), 15)


FIGURES = {
    "subspace": subspace, "bend": bend, "ae-codes": ae_codes, "nonsense": nonsense, "bargain": bargain,
    "exchange": exchange, "learned": learned, "draw": a_draw, "fill": fill, "between": between, "collapse": collapse,
    "new": generation,
}  # fmt: skip


def save(picture: str) -> None:
    """Save the current figure to a file, with coordinates rounded to hundredths of a point."""
    path = PICTURES / f"{picture}.svg"
    plt.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close()
    path.write_text(re.sub(r"\b([1-9]\d*\.\d\d)\d+", r"\1", path.read_text("utf-8")), "utf-8")


def draw_all(s: dict[str, Any], results: Mapping[str, float], pictures: Iterable[str] = FIGURES) -> None:
    """Draw every picture of the page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    s["pairs"] = [0, 3]
    with plt.rc_context(STYLE):
        for picture in pictures:
            FIGURES[picture](s)
            save(picture)
        for c in s["sweep"]:
            still(s, c, results)
            save(f"c-{c:g}")


def main() -> None:
    warnings.simplefilter("ignore", UserWarning)
    text, scope = PAGE.read_text("utf-8"), {}
    for block in code_of(text):
        exec(compile(block, PAGE.name, "exec"), scope)
    results = {key: float(f"{value:.6g}") for key, value in measure(scope).items()}
    draw_all(scope, results)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    PAGE.write_text(with_stills(with_numbers(text, results), results), "utf-8")


if __name__ == "__main__":
    main()
