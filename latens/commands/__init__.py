"""What each command does: data and run in, files and an answer out. :mod:`latens.cli` reads the words and prints."""

from latens.commands.answer import Answer
from latens.commands.asking import kinds_asked, reading, schema
from latens.commands.comparing import compare, demo, recipes
from latens.commands.densities import density
from latens.commands.fitting import Fit
from latens.commands.seeds import fit, resume
from latens.commands.sweeping import resume_sweep, sweep
from latens.commands.using import encode, evaluate, impute, reconstruct, report, sample, score

__all__ = [
    "Answer", "Fit", "compare", "demo", "density", "encode", "evaluate", "fit", "impute", "kinds_asked", "reading",
    "recipes", "reconstruct", "report", "resume", "resume_sweep", "sample", "schema", "score", "sweep",
]  # fmt: skip
