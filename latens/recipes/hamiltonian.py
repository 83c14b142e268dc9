"""Posteriors refined by Hamiltonian dynamics."""

from __future__ import annotations

from torch import nn

from latens import conditionals, models, objectives
from latens.errors import is_whole, require
from latens.recipes.choices import DataInfo, encoder, latent_size, likelihood_for, posterior_for, prior_for
from latens.recipes.choices.pseudo_inputs import spread_rows


def hvae(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 3, step_size: float = 0.05, tempering: float = 0.5,
    likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose posterior draws follow tempered Hamiltonian dynamics.

    A draw of the encoder's normal gets a random momentum and takes a few leapfrog steps uphill on ln p(x, z). Momenta
    begin inflated and cool down, so that draws spread at first. Step size and tempering are learned. The steps preserve
    volume, so the bound needs no Jacobian. It is a bound for any number of steps.

    .. math::

        \text{maximise}\quad \mathbb{E}[\ln p(x, z_T) + \ln \mathcal{N}(\rho_T; 0, I) - \ln q(z_0|x) - \ln
        \mathcal{N}(\rho_0; 0, I)]

        \rho' = \rho + \tfrac{\epsilon}{2} \nabla \ln p(x, z), \quad z' = z + \epsilon \rho', \quad \rho'' = \rho' +
        \tfrac{\epsilon}{2} \nabla \ln p(x, z')

    Use it when a normal posterior is the weak point and the code is continuous: on Fashion-MNIST it is 18 nats ahead of
    vae, but takes nine times as long. Every use of the model needs gradients of the decoder.

    Args:
        steps: T, the leapfrog steps, a whole number from 0 to 10,000; 0 is vae.
        step_size: ε at the start of training, in units of the code, a number between 0 and 0.5.
        tempering: Momenta begin with variance 1/tempering at the start of training, a number above 0, at most 1; 1 is
            no tempering.

    References:
        * Caterini, Doucet & Sejdinovic (2018), Hamiltonian variational auto-encoder. NeurIPS
    """
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    return models.Hamiltonian(*parts, steps=steps, step_size=step_size, tempering=tempering), objectives.ELBO()


def rhvae(
    info: DataInfo, *, latent_dim: int | str = 2, steps: int = 3, step_size: float = 0.01, tempering: float = 0.5,
    centroids: int = 20, temperature: float = 1.0, floor: float = 0.1, iterations: int = 3, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""Hamiltonian dynamics in a metric that is learned around codes.

    It is like hvae, but the variance of momenta is a metric G(z), learned around the codes of some training rows: steps
    are long where G is small. Two parts of a step are implicit and solved by fixed-point iteration; the bound is exact
    only as far as the iteration has converged. The training rows are saved with the model.

    .. math::

        \text{maximise}\quad \mathbb{E}[\ln p(x, z_T) + \ln \mathcal{N}(\rho_T; 0, G(z_T)) - \ln q(z_0|x) - \ln
        \mathcal{N}(\rho_0; 0, G(z_0))]

        G^{-1}(z) = \sum_{i=1}^{M} L_i L_i^\top \exp(-\lVert z - c_i \rVert^2 / \tau^2) + \lambda I

    Use it when codes have two or three dimensions and their geometry is of interest, or a few rows are to be augmented
    (`latens density RUN --kind metric`). It is about twenty times as slow as vae, and a code of 2 dimensions is
    not meant for a high likelihood.

    Args:
        latent_dim: Dimensions of z, a whole number from 1 to 65,536; more than a few are slow.
        steps: T, the leapfrog steps, a whole number from 0 to 10,000; 0 is vae.
        step_size: ε at the start of training, in units of the code, a number between 0 and 0.5.
        tempering: Momenta begin with variance G/tempering at the start of training, a number above 0, at most 1; 1 is
            no tempering.
        centroids: M, the training rows around whose codes the metric is built, a whole number from 1 to 1,000.
        temperature: τ, the width of the metric around a code, in units of the code, a number above 0.
        floor: λ, the inverse metric far from all codes, a number above 0.
        iterations: Iterations of the fixed point in each implicit part, a whole number from 1 to 1,000.

    References:
        * Chadebec, Mantoux & Allassonnière (2020), Geometry-aware Hamiltonian variational auto-encoder.
          arXiv:2010.11518
    """
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    metric = _centroid_metric(info, size, network, centroids, temperature, floor)
    options = {"steps": steps, "step_size": step_size, "tempering": tempering, "iterations": iterations}
    return models.RiemannianHamiltonian(*parts, metric, **options), objectives.ELBO()  # type: ignore[arg-type]


def annealed(
    info: DataInfo, *, latent_dim: int | str = "auto", steps: int = 5, step_size: float = 0.05, keep: float = 0.5,
    power: float = 1.0, likelihood: str = "auto", variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    r"""The VAE whose draws are annealed from q(z|x) to the posterior.

    It uses differentiable annealed importance sampling: each leapfrog step follows a density between q and p(x, z), and
    between steps a part of the momentum is drawn again. Step size and the spacing of the steps are learned.

    .. math::

        \text{maximise}\quad \mathbb{E}\left[ \ln p(x, z_T) - \ln q(z_0|x) + \sum_{t=1}^{T} (\ln \mathcal{N}(\rho_t'; 0,
        I) - \ln \mathcal{N}(\rho_t; 0, I)) \right]

        \text{step}\ t:\ (z_{t - 1}, \rho_t) \to (z_t, \rho_t') \ \text{under}\ (1 - s_t) \ln q(z|x) + s_t \ln p(x, z)

        s_t = (t / T)^{a}

    Use it when ln p(x) should be bounded tightly by many steps instead of many draws. With 5 steps on Fashion-MNIST it
    is 7 nats ahead of vae, but takes sixteen times as long; hvae and iwae gain more at less cost.

    Args:
        steps: T, the leapfrog steps, a whole number from 0 to 10,000; 0 is vae.
        step_size: ε at the start of training, in units of the code, a number between 0 and 0.5.
        keep: Share of the momentum that is kept between steps, a number from 0 to 1.
        power: a at the start of training, a number above 0; above 1 more steps are spent near q.

    References:
        * Geffner & Domke (2021), MCMC variational inference via uncorrected Hamiltonian annealing. NeurIPS
        * Zhang et al. (2021), Differentiable annealed importance sampling and the perils of gradient noise. NeurIPS
    """
    size = latent_size(info, latent_dim)
    parts = _parts(info, size, network, likelihood, variance)
    model = models.Hamiltonian(*parts, steps=steps, step_size=step_size, anneal=True, keep=keep, power=power)
    return model, objectives.ELBO()


def _parts(
    info: DataInfo, size: int, network: str, likelihood: str, variance: float | str
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(prior, posterior, likelihood) before any dynamics."""
    posterior = posterior_for(info, size, "diagonal", network, "shared")
    return prior_for(info, size, "standard"), posterior, likelihood_for(info, size, likelihood, network, variance)


def _centroid_metric(
    info: DataInfo, latent_dim: int, network: str, centroids: int, temperature: float, floor: float
) -> models.CentroidMetric:
    """A metric around ``centroids`` evenly spaced rows of the sample (around all rows, if there are fewer)."""
    require(is_whole(centroids) and 1 <= centroids <= 1000, "centroids", "a whole number from 1 to 1000", centroids)
    net = conditionals.Features(encoder(info, [latent_dim * (latent_dim + 1) // 2], network), info.reads)
    rows, given = spread_rows(info, min(int(centroids), info.rows))
    return models.CentroidMetric(net, rows, latent_dim, given, temperature=temperature, floor=floor)
