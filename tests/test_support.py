"""Values without probability under a user's own likelihood are refused before training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import latens
from latens import conditionals, evaluation, models, objectives, priors
from latens import distributions as d
from latens.conditionals.base import Conditional
from latens.data.transforms import binarize

rng = np.random.default_rng(0)
BITS = (rng.random((60, 4)) < 0.3).astype("float32")
COUNTS = rng.poisson(2.0, (60, 4)).astype("float32")
SHARES = rng.random((60, 4)).astype("float32")
LEVELS = rng.integers(0, 5, (60, 4)).astype("float32")


class Own(Conditional):
    """A user's distribution, from the network's output."""

    def __init__(self, make, network):
        super().__init__(network)
        self.make = make

    def distribution(self, output, given):
        return self.make(output)


def net(*shape: int) -> nn.Module:
    return nn.Sequential(nn.Linear(2, int(np.prod(shape))), nn.Unflatten(-1, shape))


def beta(output: Tensor) -> d.Observed:
    return d.Observed(d.Beta(output.exp(), torch.ones_like(output)), 1)


def foreign(output: Tensor) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.Bernoulli(logits=output), 1)


# likelihood, values that it takes, a value that it refuses, and what the message says it takes
LIKELIHOODS = {
    "Bernoulli": (lambda: conditionals.BernoulliLikelihood(net(4)), BITS, 0.5, "0 and 1"),
    "Bernoulli of torch": (lambda: Own(foreign, net(4)), BITS, 2.0, "0 and 1"),
    "Categorical": (lambda: conditionals.CategoricalLikelihood(net(5, 4)), LEVELS, 5.0, "0 to 4"),
    "Categorical, fraction": (lambda: conditionals.CategoricalLikelihood(net(5, 4)), LEVELS, 1.5, "0 to 4"),
    "DiscretizedLogistic": (lambda: conditionals.DiscretizedLogisticLikelihood(net(2, 4), 5), LEVELS, -1.0, "0 to 4"),
    "DiscretizedLogistic, span": (
        lambda: conditionals.DiscretizedLogisticLikelihood(net(2, 4), 5, span=(0.0, 1.0)),
        LEVELS / 4, 0.3, "5 evenly spaced",
    ),
    "Poisson": (lambda: conditionals.PoissonLikelihood(net(4)), COUNTS, 0.5, "whole numbers of at least 0"),
    "NegativeBinomial": (
        lambda: conditionals.NegativeBinomialLikelihood(net(4), (4,)), COUNTS, -1.0, "whole numbers of at least 0"
    ),
    "ContinuousBernoulli": (lambda: conditionals.ContinuousBernoulliLikelihood(net(4)), SHARES, 1.5, "from 0 to 1"),
    "Beta": (lambda: Own(beta, net(4)), SHARES, -0.5, "from 0 to 1"),
}  # fmt: skip


def model_of(likelihood: nn.Module) -> models.VAE:
    return models.VAE(priors.StandardNormal(2), conditionals.DiagonalNormalPosterior(nn.Linear(4, 4)), likelihood)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_value_outside_the_support_is_named_with_row_and_cell(name: str) -> None:
    make, good, bad, words = LIKELIHOODS[name]
    wrong = good.copy()
    wrong[41, 3] = bad
    model = model_of(make())
    match = rf"row 41, cell 3 \(counted from 0\) has {bad:g}, .*{words}"
    for data in ({"X": wrong}, {"X": wrong, "validation": 0.5}, {"X": good, "validation": wrong}):
        with pytest.raises(latens.InputError, match=match):
            latens.train(model, objectives.ELBO(), **data, epochs=1)
    for evaluate in (evaluation.nll, evaluation.elbo, evaluation.evaluate):
        with pytest.raises(latens.InputError, match=match):
            evaluate(model, torch.from_numpy(wrong))
    run = latens.train(model, objectives.ELBO(), good, epochs=1)
    assert torch.isfinite(evaluation.nll(run.model, torch.from_numpy(good), 2).rows).all()


@pytest.mark.parametrize("x", [SHARES, (SHARES * 255).astype("uint8")], ids=["floats", "bytes"])
def test_what_a_transform_makes_is_checked(x: np.ndarray) -> None:
    with pytest.raises(latens.InputError, match="0 and 1"):
        latens.train(model_of(conditionals.BernoulliLikelihood(net(4))), objectives.ELBO(), x, epochs=1)
    latens.train(
        model_of(conditionals.BernoulliLikelihood(net(4))),
        objectives.ELBO(),
        x,
        epochs=1,
        transform=binarize,
        validation=0.2,
    )


def test_a_loader_is_refused_by_name() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(BITS)))
    with pytest.raises(latens.InputError, match=r"the data are a DataLoader: give its dataset \(loader.dataset\)"):
        latens.train(model_of(conditionals.BernoulliLikelihood(net(4))), objectives.ELBO(), loader, epochs=1)
