"""The meaning of "auto": sizes, likelihoods and networks chosen from the schema and the counts of the data.

Every choice is recorded as a sentence in ``DataInfo.choices``, which the run folder and the report show. Choices depend
only on the schema and the number of rows, so that a saved run can be rebuilt without its data. The sample of rows sets
only the starting values of buffers and biases, which loading replaces.
"""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.recipes.choices.arrays import LIKELIHOODS, likelihood_name, standardisation
    from latens.recipes.choices.info import CONV_SIDE, NETWORKS, DataInfo, latent_size, network_name, one_of
    from latens.recipes.choices.parts import encoder, likelihood_for, perceptual_for, posterior_for, prior_for, through
    from latens.recipes.choices.pseudo_inputs import linear_units, pseudo_inputs_for, rows_for
else:
    __getattr__, __dir__, __all__ = late(__name__, {
        "arrays": "LIKELIHOODS likelihood_name standardisation",
        "info": "CONV_SIDE NETWORKS DataInfo latent_size network_name one_of",
        "parts": "encoder likelihood_for perceptual_for posterior_for prior_for through",
        "pseudo_inputs": "linear_units pseudo_inputs_for rows_for",
    })  # fmt: skip
