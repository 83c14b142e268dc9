"""Start-up of new processes: help, imports, and fits so small that little else takes time."""

from functools import partial

from speed.case import Case, Size

ORDER = 10
GOAL = "latens --help 0.5 s, import latens 0.3 s; a small fit not dominated by imports or compiling"
FIT = """
import numpy as np, latens
latens.VAE(2, epochs=20, random_state=0).fit(np.random.default_rng(0).normal(size=(300, 5)))
"""


def build(size: Size, what: str):
    from speed import commands, fits

    where = fits.folder()
    command = {
        "latens --help": lambda: commands.latens("--help"),
        "import latens": lambda: commands.python("import latens"),
        "import torch": lambda: commands.python("import torch"),
        "import pythae.models": lambda: commands.python("import pythae.models"),
        "python": lambda: commands.python("pass"),
        "VAE().fit of 300 x 5, 20 epochs": lambda: commands.python(FIT),
        "latens recipes": lambda: commands.latens("recipes"),
    }.get(what)
    data = None if command else fits.npy(where / "small.npy", 300)

    def repeat(number):
        done = commands.run(command(), where) if command else fits.fit(where, data, "--epochs", "20", "--json")[0]
        return {"value": done.seconds, "peak": done.peak}

    repeat(0)  # files are read from disk once
    return repeat


WHAT = (
    "latens --help", "import latens", "import torch", "import pythae.models", "python", "latens recipes",
    "VAE().fit of 300 x 5, 20 epochs", "latens fit of 300 x 10, 20 epochs",
)  # fmt: skip
CASES = [
    Case(
        "startup", "starting", GOAL, "s", {what: partial(build, what=what) for what in WHAT},
        ours="latens --help",
    )
]  # fmt: skip
