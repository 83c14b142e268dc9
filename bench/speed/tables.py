"""The figures as Markdown."""

from __future__ import annotations

import statistics
from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """One table of ratios beside their goals, then every contender's figures, then what they were taken on."""
    lines = [
        "| case | latens | beside | ratio (rounds) | of the floor | goal |",
        "|---|---|---|---|---|---|",
        *(_row(name, case) for name, case in found.items()),
        "",
        "| case | contender | median | best | rounds | set-up, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in found.items():
        lines += [_contender(name, case["unit"], who, entry) for who, entry in case["contenders"].items()]
    further = [
        f"* {name}: " + "; ".join(f"{key} {shown(value)}" for key, value in case["summary"].items())
        for name, case in found.items() if case.get("summary")
    ]  # fmt: skip
    skipped = [f"* {name}: {who}: {why}" for name, case in found.items() for who, why in case["skipped"].items()]
    conditions = sorted({_conditions(case) for case in found.values()})
    return "\n".join(part for part in [*lines, "", *further, *skipped, "", *conditions])


def put(text: str, page: str, mark: str = "speed") -> str:
    """The page with the text between its marks.

    >>> put("new", "a <!-- speed -->old<!-- /speed --> b")
    'a <!-- speed -->\\n\\nnew\\n\\n<!-- /speed --> b'
    """
    before, first, rest = page.partition(f"<!-- {mark} -->")
    _, last, after = rest.partition(f"<!-- /{mark} -->")
    if not (first and last):
        raise SystemExit(f"the page has no marks <!-- {mark} --> and <!-- /{mark} -->")
    return f"{before}{first}\n\n{text}\n\n{last}{after}"


def shown(value: Any) -> str:
    """Three significant figures, thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _row(name: str, case: dict[str, Any]) -> str:
    found, unit = case["contenders"], case["unit"]
    cells = []
    for who in (case["ours"], case["theirs"]):
        cells.append(f"{who}: {shown(found[who]['median'])} {unit}" if who in found else "")
    ratio, floor = case.get("ratio"), case.get("of_floor")
    cells.append(f"**{ratio['median']:.2f} x** ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "")
    cells.append(f"{floor['median']:.2f}" if floor else "")
    return f"| {name}: {case['title']} | " + " | ".join([*cells, case["goal"]]) + " |"


def _contender(name: str, unit: str, who: str, entry: dict[str, Any]) -> str:
    cells = [name, who, f"{shown(entry['median'])} {unit}", shown(entry["best"]), str(len(entry["values"]))]
    before = [more["before"] for more in entry["more"] if "before" in more]
    call = f" and {shown(statistics.median(before))} a call" if before else ""
    return f"| {' | '.join(cells)} | {entry['setup']:.1f}{call} |"


def _conditions(case: dict[str, Any]) -> str:
    machine = case["machine"]
    names = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{case['date'][:10]}, {machine['cpu']}, {machine['cores']} cores, load {case['load'][0]} before and "
        f"{case['load'][1]} after, Python {machine['python']}, {names}; latens {case['code']}"
    )
