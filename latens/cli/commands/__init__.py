"""What each command does: it takes data and a run, writes files and returns an :class:`Answer`. :mod:`latens.cli.main`
declares the commands and prints the answers."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.cli.commands.answer import Answer
    from latens.cli.commands.comparing import compare, demo
    from latens.cli.commands.compressing import compress, decompress
    from latens.cli.commands.densities import density
    from latens.cli.commands.evaluating import evaluate, report
    from latens.cli.commands.exploring import explore
    from latens.cli.commands.exporting import export
    from latens.cli.commands.fitting import Fit, asked, schema
    from latens.cli.commands.inputs import reading
    from latens.cli.commands.listing import recipes
    from latens.cli.commands.many import fit, resume
    from latens.cli.commands.parts import encode, impute, reconstruct, sample, score
    from latens.cli.commands.sharing import pull, push
    from latens.cli.commands.sweeping import resume_sweep, sweep
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "answer": "Answer", "comparing": "compare demo", "compressing": "compress decompress", "densities": "density",
        "evaluating": "evaluate report", "exploring": "explore", "exporting": "export", "fitting": "Fit asked schema",
        "listing": "recipes", "many": "fit resume", "inputs": "reading", "sharing": "pull push",
        "sweeping": "resume_sweep sweep", "parts": "encode impute reconstruct sample score",
    })  # fmt: skip
