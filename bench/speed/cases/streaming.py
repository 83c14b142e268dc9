"""latens fit on a Parquet file, streamed and in memory: rows per second in the epochs after the first."""

from functools import partial

from speed.case import Case, Size

ORDER = 9
GOAL = "0.8 of in-memory (stretch: 0.95), memory constant"


def build(size: Size, options: tuple[str, ...]):
    from speed import fits

    where, rows = fits.folder(), size.of(1_000_000, 30_000, 10_000_000)
    data = fits.parquet(where / "rows.parquet", rows)

    def repeat(number):
        done, run = fits.fit(where, data, "--epochs", "2", "--batch-size", "512", "--json", *options)
        first, last = fits.rounds(run)[:: len(fits.rounds(run)) - 1]
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
        return {"value": steps * 512 / seconds, "whole": done.seconds, "peak": done.peak}

    return repeat


def summary(found):
    whole = {f"{who}, whole command, s": round(e["more"][-1]["whole"], 1) for who, e in found.items()}
    return whole | {f"{who}, peak MB": round(e["more"][-1]["peak"] / 1e6) for who, e in found.items()}


CASES = [
    Case(
        "streaming", "10^6 x 10 of Parquet", GOAL, "rows/s",
        {"streamed": partial(build, options=("--stream",)), "in memory": partial(build, options=())},
        ours="streamed", theirs="in memory", repeats=3, summary=summary,
    )
]  # fmt: skip
