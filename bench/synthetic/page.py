"""Write the figures as Markdown tables, one per data set, next to the goals that were set for latens."""

from __future__ import annotations

from typing import Any

from kept import conditions, spread

NAMES = {  # figure -> (its name on the page, digits after the point)
    "shape": ("shape error, %", 2),
    "trend": ("trend error, %", 2),
    "trees": ("told apart by boosted trees, AUROC", 3),
    "c2st": ("C2ST by logistic regression (1 is best)", 3),
    "alpha_precision": ("alpha-precision", 3),
    "beta_recall": ("beta-recall", 3),
    "useful": ("trained on these rows, tested on real ones", 3),
    "ratio": ("the same, divided by that of real training rows", 3),
    "closer": ("share closer to training than to other rows", 3),
    "attack": ("membership inference, AUROC", 3),
    "copies": ("rows equal to a training row, %", 2),
    "outside": ("numbers outside the range, %", 2),
    "heap_error": ("shares of heaps, mean relative error, %", 1),
    "heaps_off": ("heaps off by more than 10 % and two standard errors, %", 1),
    "broken": ("rows that break a rule, %", 2),
    "sdmetrics_shape": ("SDMetrics, shape error, %", 2),
    "sdmetrics_trend": ("SDMetrics, trend error, %", 2),
    "sdmetrics_c2st": ("SDMetrics, LogisticDetection (1 is best)", 3),
    "fit_seconds": ("processor seconds to fit", 0),
}
EVERYWHERE = {
    "ratio": "0.99", "closer": "0.47 to 0.53", "copies": "no more than held-out rows", "outside": "0", "heaps_off": "0",
    "broken": "0",
}  # fmt: skip
GOALS = {
    "adult": {"shape": "0.65", "trend": "1.7", "trees": "0.58", "useful": "0.905", "sdmetrics_shape": "1.0",
              "sdmetrics_trend": "2.5", "sdmetrics_c2st": "0.99"},
    "diamonds": {"shape": "0.4", "trees": "0.62", "useful": "0.975"},
    "magic": {"shape": "1.8", "trees": "0.55"},
}  # fmt: skip


def markdown(lines: list[dict[str, Any]]) -> str:
    """The tables, one for each data set: mean over seeds ± standard deviation."""
    parts = []
    for data in dict.fromkeys(line["data"] for line in lines):
        parts.append(_table(data, [line for line in lines if line["data"] == data]))
    return "\n\n".join([*parts, conditions(lines, [line["version"] for line in lines if line["system"] == "latens"])])


def _table(data: str, lines: list[dict[str, Any]]) -> str:
    systems: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        systems.setdefault(line["system"], []).append(line)
    rows, goals = lines[0]["rows"], EVERYWHERE | GOALS.get(data, {})
    seeds = ", ".join(f"{name} {len(each)}" for name, each in systems.items())
    title = (f"**{data}**: {rows['training']:,} training rows, {rows['held out']:,} held-out rows; usefulness is "
             f"measured by predicting `{lines[0]['target']}`. Seeds: {seeds}.")
    head = ["| | goal |" + "".join(f" {name} |" for name in systems), "|---|---|" + "---|" * len(systems)]
    body = []
    for key, (name, digits) in NAMES.items():
        cells = [spread([_value(line, key) for line in each], digits) for each in systems.values()]
        if any(cells):
            body.append(f"| {name} | {goals.get(key, '')} | " + " | ".join(cells) + " |")
    return "\n".join([title, "", *head, *body])


def _value(line: dict[str, Any], key: str) -> float | None:
    if key == "fit_seconds":
        return None if line["system"] == "oracle" or not line.get(key) else line[key][1]
    return line["figures"].get(key)
