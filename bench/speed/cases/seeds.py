"""Eight small models on 2,000 rows x 10, by latens fit --seeds 8 or by eight fits of one seed each; otherwise
defaults."""

from speed.case import Case, Size

ORDER = 12
GOAL = "3 x eight fits on two cores"


def start(size: Size):
    from speed import fits

    where = fits.folder()
    options = size.of((), ("--epochs", "2"))
    return where, fits.npy(where / "rows.npy", size.of(2_000, 400)), size.of(8, 2), options


def together(size: Size):
    from speed import fits

    where, data, count, options = start(size)
    return lambda number: {"value": fits.fit(where, data, "--seeds", str(count), "--json", *options)[0].seconds}


def apart(size: Size):
    from speed import fits

    where, data, count, options = start(size)

    def repeat(number):
        each = [fits.fit(where, data, "--seed", str(seed), "--json", *options)[0].seconds for seed in range(count)]
        return {"value": sum(each)}

    return repeat


CASES = [
    Case(
        "seeds", "8 small models at once", GOAL, "s", {"--seeds 8": together, "eight fits": apart},
        ours="--seeds 8", theirs="eight fits", repeats=3,
    )
]  # fmt: skip
