"""Libraries that can only fit whole tables: the time per epoch is the difference between two fits."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from speed.case import Absent, Repetition
from speed.peers.work import Work

FEW, MANY = 1, 3  # epochs


def _difference(work: Work, fit: Callable[[int], object]) -> Repetition:
    fit(1)

    def repeat(number: int) -> dict[str, Any]:
        seconds = []
        for epochs in (FEW, MANY):
            began = time.perf_counter()
            fit(epochs)
            seconds.append(time.perf_counter() - began)
        spent = max(seconds[1] - seconds[0], 1e-9)
        return {"value": work.figure(spent, (MANY - FEW) * work.steps), "before": max(0.0, seconds[0] - spent / 2)}

    return repeat


def pyod(work: Work) -> Repetition:
    """PyOD's VAE, without its dropout."""
    try:
        from pyod.models.vae import VAE
    except ImportError as error:
        raise Absent(f"PyOD cannot be imported ({error}): pip install pyod==3.6.7") from error
    hidden = list(work.network.hidden)

    def fit(epochs: int) -> object:
        return VAE(
            epoch_num=epochs, batch_size=work.batch, lr=work.rate, latent_dim=work.network.latent,
            encoder_neuron_list=hidden, decoder_neuron_list=hidden[::-1], dropout_rate=0.0, verbose=0, device="cpu",
        ).fit(work.x)  # fmt: skip

    return _difference(work, fit)


def scvi(work: Work) -> Repetition:
    """scVI on counts without its dropout, but with its batch normalisation and library sizes."""
    sys.modules.setdefault("jax", None)  # type: ignore[arg-type]  # with JAX and without flax its import fails
    try:
        import scvi
        from anndata import AnnData
    except ImportError as error:
        raise Absent(f"scvi-tools cannot be imported ({error}): pip install scvi-tools==1.4.2") from error
    cells = AnnData(work.x)
    scvi.model.SCVI.setup_anndata(cells)
    [hidden] = work.network.hidden
    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}

    def fit(epochs: int) -> object:
        model = scvi.model.SCVI(
            cells, n_hidden=hidden, n_latent=work.network.latent, n_layers=1, dropout_rate=0.0, gene_likelihood="nb"
        )
        return model.train(
            max_epochs=epochs, accelerator="cpu", train_size=1.0, batch_size=work.batch,
            plan_kwargs={"lr": work.rate}, **quiet,
        )  # fmt: skip

    return _difference(work, fit)


def tvae(work: Work) -> Repetition:
    """CTGAN's TVAE: it encodes each column by the modes of a mixture, so its outer layers are several times as wide.
    The mixtures are fitted once, in the set-up."""
    try:
        import pandas
        from ctgan.synthesizers import tvae as module
    except ImportError as error:
        raise Absent(f"CTGAN cannot be imported ({error}): pip install ctgan==0.12.1") from error
    frame = pandas.DataFrame(work.x, columns=[f"x{i}" for i in range(work.x.shape[1])])
    hidden = work.network.hidden
    made = module.DataTransformer()
    made.fit(frame, ())
    made.fit = lambda *given: None
    transformed = made.transform(frame)
    made.transform = lambda *given: transformed
    module.DataTransformer = lambda: made

    def fit(epochs: int) -> object:
        return module.TVAE(
            embedding_dim=work.network.latent, compress_dims=hidden, decompress_dims=hidden[::-1],
            batch_size=work.batch, epochs=epochs, enable_gpu=False,
        ).fit(frame)  # fmt: skip

    return _difference(work, fit)
