"""Training on counts: 20,000 cells x 1,000 genes, 128 hidden units, 10 latent dimensions, a negative binomial
likelihood and batches of 128."""

from speed.case import Case, Size
from speed.training import contenders, times

ORDER = 3.7
GOAL = "1.5 x scVI without compiling, 2.5 x compiled (stretch: 3 x)"


def work(size: Size):
    from speed import inputs, networks
    from speed.peers.work import Work

    x = inputs.counts(size.of(20_000, 128 * 30))
    return Work(networks.Mlp(1000, (128,), 10), x, loss="counts")


def summary(found):
    return times(found, "latens eager", "scVI") | times(found, "latens compiled", "scVI")


CASES = [
    Case(
        "counts", "20,000 x 1,000 counts, MLP 128, batch 128", GOAL, "rows/s", contenders(work, "scVI", "floor"),
        ours="latens", theirs="scVI", floor="floor", repeats=3, summary=summary,
    )
]  # fmt: skip
