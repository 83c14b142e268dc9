"""Peak memory of one epoch on 300,000 8-bit images in memory, minus that of a process that imports torch, in units of
the size of the data."""

from functools import partial

from speed.case import Case, Size

ORDER = 8
GOAL = "1.3 x the data's bytes (stretch: 1.1 x)"


def child(size: Size, name: str):
    import sys

    from speed import commands, fits

    where, rows = fits.folder(), size.of(300_000, 20_000, 1_000_000)

    def peak(who, rows):
        return commands.run([sys.executable, "-m", "speed.children", who, str(rows)], where).peak

    def repeat(number):
        fixed, small, whole = peak("torch", 0), peak(name, 2048), peak(name, rows)
        data = rows * 784
        return {
            "value": (whole - fixed) / data, "import_torch": fixed, "of_2048_rows": small, "peak": whole,
            "growth": (whole - small) / (data - 2048 * 784),
        }  # fmt: skip

    return repeat


def summary(found):
    """The bytes of memory per byte of data, beyond those of a fit to 2,048 rows; and the fixed costs."""
    growth = {
        f"{who}, growth from a fit to 2,048 rows, x the data's bytes": round(e["more"][-1]["growth"], 2)
        for who, e in found.items()
    }
    last = found["latens"]["more"][-1]
    return growth | {
        "import torch, MB": round(last["import_torch"] / 1e6),
        "latens on 2,048 rows, MB": round(last["of_2048_rows"] / 1e6),
    }


CASES = [
    Case(
        "memory", "peak memory on 8-bit images, beyond importing torch", GOAL, "x the data's bytes",
        {name: partial(child, name=name) for name in ("latens", "plain", "pythae")},
        ours="latens", theirs="pythae", repeats=3, summary=summary,
    )
]  # fmt: skip
