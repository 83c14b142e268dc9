"""Start-up of new processes: help, imports, and fits so small that start-up takes most of their time."""

from functools import partial

from speed.case import Case, Size

ORDER = 10
GOAL = "VAE().fit of 300 x 5 with defaults 3 s (stretch: 2 s), check_estimator 180 s (stretch: 90 s)"
FIT = """
import numpy as np, latens
latens.VAE(2, epochs=20, random_state=0).fit(np.random.default_rng(0).normal(size=(300, 5)))
"""


DEFAULTS = FIT.replace("2, epochs=20, ", "")
CHECKS = """
import warnings
import latens
from sklearn.utils.estimator_checks import check_estimator
warnings.simplefilter("ignore")
check_estimator(latens.VAE())
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
        "VAE().fit of 300 x 5, defaults": lambda: commands.python(DEFAULTS),
        "check_estimator(VAE()), defaults": lambda: commands.python(CHECKS),
        "latens recipes": lambda: commands.latens("recipes"),
    }.get(what)
    data = None if command else fits.npy(where / "small.npy", 300)

    def repeat(number):
        done = commands.run(command(), where) if command else fits.fit(where, data, "--epochs", "20", "--json")[0]
        return {"value": done.seconds, "peak": done.peak}

    if what in ONCE:
        return repeat
    repeat(0)  # files are read from disk once
    return repeat


ONCE = ("check_estimator(VAE()), defaults",)
WHAT = (
    "latens --help", "import latens", "import torch", "import pythae.models", "python", "latens recipes",
    "VAE().fit of 300 x 5, 20 epochs", "latens fit of 300 x 10, 20 epochs", "VAE().fit of 300 x 5, defaults", *ONCE,
)  # fmt: skip
CASES = [
    Case(
        "startup", "starting", GOAL, "s", {what: partial(build, what=what) for what in WHAT},
        ours="latens --help", once=ONCE,
    )
]  # fmt: skip
