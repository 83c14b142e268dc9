"""The figures of one machine, or of several side by side, as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

Results = Mapping[str, dict[str, Any]]  # {case: what runner.run returns}


def markdown(machines: Mapping[str, Results]) -> str:
    """The Markdown of {machine: its results}: ratios and their goals, every contender's figures, further figures,
    conditions."""
    names = list(dict.fromkeys(name for results in machines.values() for name in results))
    lines = [_head(["case", "goal", *machines])]
    for name in names:
        found = [results.get(name, {}) for results in machines.values()]
        cells = list(map(_ratio, found))
        if any(cells):
            case = next(filter(None, found))
            lines.append(_line([f"{name}: {case['title']}, {_against(case)}", case["goal"], *cells]))
    lines += ["", _head(["case", "contender", *(f"{machine}: median (rounds)" for machine in machines)])]
    for name in names:
        found = [results.get(name, {}) for results in machines.values()]
        for who in dict.fromkeys(who for case in found for who in case.get("contenders", {})):
            lines.append(_line([name, who, *(_median(case, who) for case in found)]))
    notes = [*_further(machines, names), "", *_absent(machines), *map(_conditions, machines.items())]
    return "\n".join([*lines, "", *notes]).rstrip()


def put(text: str, page: str, mark: str = "speed") -> str:
    """The page with the text inserted between its marks.

    >>> put("new", "a <!-- speed -->old<!-- /speed --> b")
    'a <!-- speed -->\\n\\nnew\\n\\n<!-- /speed --> b'
    """
    before, first, rest = page.partition(f"<!-- {mark} -->")
    _, last, after = rest.partition(f"<!-- /{mark} -->")
    if not (first and last):
        raise SystemExit(f"the page has no marks <!-- {mark} --> and <!-- /{mark} -->")
    return f"{before}{first}\n\n{wrapped(text)}\n\n{last}{after}"


def wrapped(text: str, width: int = 120) -> str:
    """The Markdown with its paragraphs and list items wrapped; tables, headings and indented code stay as they are.

    Code between backticks stays on one line, and no line begins with a word that would make it an item of a list.

    >>> wrapped("* one two three", 10)
    '* one two\\n  three'
    """
    return "\n".join(line if re.match(r"[|#<]|    |$", line) else _folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    whole = re.sub(r"`[^`]*`| (?=(?:[-+*]|\d+[.)]) )", lambda part: part[0].replace(" ", "\0"), line)
    rest = "  " if line.startswith("* ") else ""
    lines = textwrap.wrap(whole, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def shown(value: Any, digits: int = 3) -> str:
    """The number with at least ``digits`` significant figures, and with commas between thousands."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def machine_of(cpu: str) -> str:
    """The name of a machine's column; in lower case and with dashes, it names the machine's file.

    >>> machine_of("Intel(R) Xeon(R) Processor"), machine_of("AMD EPYC")
    ('Intel Xeon', 'AMD EPYC')
    """
    return " ".join(re.sub(r"\(\w+\)|@.*|\b(CPU|Processor|\d+-Core)\b", " ", cpu).split())


def is_determined(ratio: Mapping[str, float]) -> bool:
    """Whether the rounds agree on which contender is ahead, and on its lead to within a factor of 2."""
    return not ratio["low"] <= 1 <= ratio["high"] and ratio["high"] <= 2 * ratio["low"]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(cells: list[str]) -> str:
    return f"{_line(cells)}\n|{'---|' * len(cells)}"


def _against(case: dict[str, Any]) -> str:
    """The contenders whose figures make the ratio."""
    return f"{case['ours']} against {case['theirs'] or 'the floor'}"


def _ratio(case: dict[str, Any]) -> str:
    cells = []
    if ratio := case.get("ratio"):
        rounds = f"({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio["low"] < ratio["high"] else "(one round)"
        cells.append(f"**{ratio['median']:.2f} x** {rounds}" if is_determined(ratio) else f"undetermined {rounds}")
    if floor := case.get("of_floor"):
        cells.append(f"{floor['median']:.2f} of the floor")
    return ", ".join(cells)


def _median(case: dict[str, Any], who: str) -> str:
    entry = case.get("contenders", {}).get(who)
    return f"{shown(entry['median'])} {case['unit']} ({len(entry['values'])})" if entry else ""


def _further(machines: Mapping[str, Results], names: list[str]) -> list[str]:
    lines = []
    for name in names:
        found = {machine: results.get(name, {}).get("summary") or {} for machine, results in machines.items()}
        keys = dict.fromkeys(key for summary in found.values() for key in summary)
        said = [f"{key}: " + ", ".join(f"{shown(s[key], 4)} ({machine})" for machine, s in found.items() if key in s)
                for key in keys]  # fmt: skip
        lines += [f"* {name}: {'; '.join(said)}"] if said else []
    return lines


def _absent(machines: Mapping[str, Results]) -> list[str]:
    """One line per reason why contenders did not run."""
    reasons: dict[str, list[str]] = {}
    for machine, results in machines.items():
        for name, case in results.items():
            for who, why in case["skipped"].items():
                reasons.setdefault(f"{why} ({machine})", []).append(f"{name}, {who}" if case["contenders"] else name)
    return [f"Not run: {', '.join(dict.fromkeys(cases))}: {why}.\n" for why, cases in reasons.items()]


def _conditions(entry: tuple[str, Results]) -> str:
    name, results = entry
    machines = [case["machine"] for case in results.values()]
    days = sorted(case["date"][:10] for case in results.values())
    loads = [load for case in results.values() for load in case["load"]]
    versions = {name: version for machine in machines for name, version in machine["versions"].items()}
    codes = dict.fromkeys(case["code"] for case in results.values())
    facts = [
        " to ".join(sorted({days[0], days[-1]})), f"{machines[0]['cores']} cores", f"load {min(loads)} to {max(loads)}",
        f"Python {machines[0]['python']}", *(f"{package} {version}" for package, version in versions.items()),
    ]  # fmt: skip
    return f"{name}: {', '.join(facts)}; digests of latens' files: {', '.join(codes)}.\n"
