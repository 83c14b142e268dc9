"""What each command does: data and run in, files and an answer out. :mod:`latens.cli.main` reads words and prints."""

from latens.cli.commands.answer import Answer
from latens.cli.commands.asking import asked, reading, schema
from latens.cli.commands.comparing import compare, demo, recipes
from latens.cli.commands.densities import density
from latens.cli.commands.evaluating import evaluate, report
from latens.cli.commands.fitting import Fit
from latens.cli.commands.sampling import sample
from latens.cli.commands.seeds import fit, resume
from latens.cli.commands.sweeping import resume_sweep, sweep
from latens.cli.commands.using import encode, impute, reconstruct, score

__all__ = [
    "Answer", "Fit", "asked", "compare", "demo", "density", "encode", "evaluate", "fit", "impute", "reading",
    "recipes", "reconstruct", "report", "resume", "resume_sweep", "sample", "schema", "score", "sweep",
]  # fmt: skip
