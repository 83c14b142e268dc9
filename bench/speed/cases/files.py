"""encode and sample by the command line, from .npy to .npy, including imports, compared with the network's
matrix products alone.

The plain script uses the same number of linear maps of the same sizes and does nothing else: it reads, multiplies in
blocks and writes.
"""

from functools import partial
from itertools import pairwise

from speed.case import Case, Size

ORDER = 6
GOAL = "0.6 of the floor (stretch: 0.8)"
SCRIPT = """
import sys, numpy as np, torch
from torch import nn
source, out, sizes = sys.argv[1], sys.argv[2], [int(s) for s in sys.argv[3].split(",")]
layers = [m for a, b in zip(sizes, sizes[1:]) for m in (nn.Linear(a, b), nn.SiLU())][:-1]
net, kept = nn.Sequential(*layers), []
with torch.no_grad():
    if source.isdigit():
        blocks = torch.randn(int(source), sizes[0]).split(8192)
    else:
        blocks = torch.from_numpy(np.load(source)).split(8192)
    for x in blocks:
        y = net(x)
        kept.append(y + torch.randn_like(y) if source.isdigit() else y[:, : sizes[-1] // 2])
np.save(out, torch.cat(kept).numpy())
"""


def start(size: Size):
    """(a folder with a run fitted to a few rows, the number of rows of the work)."""
    from speed import fits

    where = fits.folder()
    fits.fit(where, fits.npy(where / "few.npy", 5_000), "--epochs", "2", "--json")
    return where, size.of(1_000_000, 20_000)


def sizes(where, what: str) -> list[int]:
    """The widths of the linear maps in the run's network."""
    from torch import nn

    import latens

    model = latens.load(where / "run").model_
    part = model.posterior if what == "encode" else model.likelihood
    maps = [m for m in part.modules() if isinstance(m, nn.Linear)]
    return [maps[0].in_features, *(m.out_features for m in maps)]


def ours(size: Size, what: str, only: int | None = None):
    from speed import commands, fits

    where, rows = start(size)
    rows = only or rows
    out = where / "out.npy"
    if what == "encode":
        command = commands.latens("encode", where / "run", fits.npy(where / "all.npy", rows), "--out", out)
    else:
        command = commands.latens("sample", where / "run", "-n", str(rows), "--out", out)

    def repeat(number):
        done = commands.run(command, where)
        return {"value": done.seconds, "peak": done.peak}

    return repeat


def plain(size: Size, what: str):
    from speed import commands, fits

    where, rows = start(size)
    source = fits.npy(where / "all.npy", rows) if what == "encode" else str(rows)
    command = commands.python(SCRIPT, source, where / "out.npy", ",".join(map(str, sizes(where, what))))
    return lambda number: {"value": commands.run(command, where).seconds}


def floor(size: Size, what: str):
    from speed import floors

    where, rows = start(size)
    run = floors.products([*pairwise(sizes(where, what))], rows)
    run()
    return lambda number: {"value": run()}


def summary(found):
    """The figures minus those of the same command on few rows, which are the cost of starting."""
    if not {"latens on 100 rows", "floor"} <= set(found):
        return {}
    beyond = found["latens"]["median"] - found["latens on 100 rows"]["median"]
    peak = max(more["peak"] for more in found["latens"]["more"])
    return {
        "seconds beyond startup": round(beyond, 2),
        "floor as a share of these": round(found["floor"]["median"] / beyond, 2),
        "peak MB": round(peak / 1e6),
    }  # fmt: skip


CASES = [
    Case(
        name, f"latens {what}, 10^6 rows x 10, file to file", GOAL, "s",
        {who: partial(f, what=what) for who, f in {"latens": ours, "plain script": plain, "floor": floor}.items()}
        | {"latens on 100 rows": partial(ours, what=what, only=100)},
        ours="latens", theirs="plain script", floor="floor", summary=summary,
    )
    for name, what in (("encode", "encode"), ("generate", "sample"))
]  # fmt: skip
