"""Exponents of growth: seconds against rows, against draws K, and peak memory of a stream against rows."""

import time

from speed.case import Case, Size
from speed.slopes import slope

ORDER = 11
GOAL = "linear in rows within 10 % (0.9 to 1.1), linear in K, memory of a stream constant (0)"


def rows(size: Size):
    """The time of one epoch of latens.train: the whole call, with a 64-64 network and batches of 512."""
    import torch

    import latens
    from latens import objectives
    from speed import inputs
    from speed.networks import Mlp
    from speed.peers import ours
    from speed.peers.work import Work

    sizes = size.of((10**4, 10**5, 10**6), (2_000, 20_000), (10**4, 10**5, 10**6, 10**7))
    whole = torch.from_numpy(inputs.normals(sizes[-1]))

    def seconds(count):
        model = ours.model(Work(Mlp(10, (64, 64), 4), None, loss="normal"))
        began = time.perf_counter()
        latens.train(model, objectives.ELBO(), whole[:count], epochs=1, batch_size=512, patience=0, compile=False)
        return time.perf_counter() - began

    seconds(sizes[0])

    def repeat(number):
        found = {count: seconds(count) for count in sizes}
        return {"value": slope(found), "seconds": found}

    return repeat


def draws(size: Size):
    """The time of evaluation.nll on 20 images."""
    from latens.evaluation import nll
    from speed.cases.nll import data, network
    from speed.peers import ours
    from speed.peers.work import Work

    x, _ = data(size)
    model = ours.model(Work(network(), x))
    nll(model, x[:20], 10)

    def repeat(number):
        found = {}
        for k in size.of((100, 1000, 10_000), (100, 1000)):
            began = time.perf_counter()
            nll(model, x[:20], k)
            found[k] = time.perf_counter() - began
        return {"value": slope(found), "seconds": found}

    return repeat


def stream(size: Size):
    """The peak memory of one epoch of latens fit --stream."""
    from speed import fits

    where = fits.folder()
    sizes = size.of((10**5, 10**6), (10_000, 40_000), (10**5, 10**6, 10**7))
    files = {count: fits.parquet(where / f"{count}.parquet", count) for count in sizes}

    def repeat(number):
        options = ("--epochs", "1", "--batch-size", "512", "--stream", "--json")
        found = {count: fits.fit(where, file, *options)[0].peak for count, file in files.items()}
        return {"value": slope(found), "bytes": found}

    return repeat


def summary(found):
    return {
        f"{who}, {size}": round(value if "seconds" in entry["more"][-1] else value / 1e6, 3)
        for who, entry in found.items()
        for size, value in next(v for k, v in entry["more"][-1].items() if k in ("seconds", "bytes")).items()
    }


CASES = [
    Case(
        "growth", "exponents of growth", GOAL, "exponent",
        {"seconds by rows": rows, "seconds by K": draws, "memory of a stream by rows": stream},
        ours="seconds by rows", repeats=2, summary=summary,
    )
]  # fmt: skip
