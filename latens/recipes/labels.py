"""Models that use labels, which are given for all rows or known only for some."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, objectives
from latens.errors import InputError
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, posterior_for, prior_for
from latens.recipes.choices.classes import with_class


def cvae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE of the data given a condition: p(x|c).

    Posterior, likelihood and prior all see the condition (labels, or any column named with --condition). So the code
    need only contain what the condition does not determine. Every other recipe takes conditions too; this one gives
    each value of the condition a separate normal prior.

    .. math::

        \text{maximise}\quad \mathbb{E}_{q(z|x, c)}[\ln p(x|z, c)] - \beta\,\mathrm{KL}(q(z|x, c) \,\|\, p(z|c))

    Use it when you want samples of a given class (`latens sample RUN --set label=3`), or codes of what the condition
    does not explain. The condition must be known for all rows; if it is missing in some, use m2.

    References:
        * Sohn, Lee & Yan (2015), Learning structured output representation using deep conditional generative models.
          NeurIPS
    """
    if not info.conditions:
        raise InputError("cvae models the data given a condition, but none is named", "name a column with --condition")
    size = latent_size(info, latent_dim)
    model = models.VAE(
        prior_for(info, size, "conditional"), posterior_for(info, size, "diagonal", network, "shared"),
        likelihood_for(info, size, likelihood, network, variance),
    )  # fmt: skip
    return model, objectives.ELBO(beta)


def m2(
    info: DataInfo, *, latent_dim: int | str = "auto", classes: int | str = "auto", classification: float = 10.0,
    likelihood: str = "auto", variance: float | str = "learned", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE with a class that may be missing in some or in all rows.

    The first condition is the class y. If it is known, the code is drawn given y, and a classifier q(y|x) learns it. If
    it is missing, all classes count, weighted by the classifier. Without any condition the classes are clusters. A step
    costs as many draws as there are classes.

    .. math::

        \text{labelled rows: maximise}\quad L_y(x) + a \ln q(y|x)

        \text{others: maximise}\quad \sum_{y} q(y|x)\, (L_y(x) + \ln p(y) - \ln q(y|x)), \quad p(y) \ \text{uniform}

        L_y(x) = \mathbb{E}_{q(z|x, y)}[\ln p(x|z, y)] - \mathrm{KL}(q(z|x, y) \,\|\, p(z))

    Use it when few rows have labels and the remaining rows should help to classify. If all rows have labels, a
    classifier alone is simpler, and cvae models the data better in a sixth of the time.

    Args:
        classes: Number of classes if no condition is named, a whole number from 2 to 1,000; auto: 10. With a condition
            it is the number of its levels.
        classification: a, the weight of ln q(y|x) in labelled rows, a number from 0.
        variance: Observation variance c of a normal likelihood, in squared units of the standardised data: a number
            above 0, or learned (by gradient). Other likelihoods have none.

    References:
        * Kingma, Rezende, Mohamed & Welling (2014), Semi-supervised learning with deep generative models. NeurIPS
    """
    size = latent_size(info, latent_dim)
    whole, without, name, count = with_class(info, classes)
    if variance == "optimal":
        raise InputError(
            "the optimal variance needs one draw for each row, but m2 has one for each class",
            "pass --variance learned, or a number",
        )
    parts = (prior_for(without, size, "standard"), posterior_for(whole, size, "diagonal", network, "shared"),
             likelihood_for(whole, size, likelihood, network, variance),
             conditionals.Features(encoder(without, [count], network), without.reads))  # fmt: skip
    return models.Classified(*parts, count, name), objectives.SemiSupervisedELBO(classification)
