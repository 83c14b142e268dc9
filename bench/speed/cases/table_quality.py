"""Time of latens.VAE().fit(X) with its defaults to the held-out bound of pythae's default network on 10^6 x 10 normals.

pythae has its default encoder and decoder (512 hidden units), 4 latent dimensions, squared error, batches of 512, Adam
at 1e-3 and 5 epochs (its default training, batches of 64 at 1e-4 for 100 epochs, would take more than an hour). Its
bound is computed at the best observation variance for it, which is the mean squared error on the held-out rows, not at
the variance 1 that it trains with.
"""

import math
import time

from speed.case import Case, Size

ORDER = 3.5
GOAL = "60 x pythae to the same bound (the stretch goal of the tables)"
EPOCHS = 5


def data(size: Size):
    from speed import inputs

    return inputs.normals(size.of(1_000_000, 20_000)), inputs.normals(size.of(20_000, 2_000), seed=1)


def latens(size: Size):
    import torch

    import latens
    from latens import evaluation

    x, test = data(size)

    def repeat(number):
        began = time.perf_counter()
        vae = latens.VAE(4, random_state=number, **size.of({}, {"epochs": 2})).fit(x)
        seconds = time.perf_counter() - began
        bound = evaluation.elbo(vae.model_, torch.from_numpy(test))
        return {"value": seconds, "bound": -bound.elbo, "settings": vae.run_.settings.to_json()}

    return repeat


def pythae(size: Size):
    import torch

    from speed.networks import Mlp
    from speed.peers import pythae_loop

    x, test = (torch.from_numpy(part) for part in data(size))

    def repeat(number):
        torch.manual_seed(number)
        began = time.perf_counter()
        model = pythae_loop.model(Mlp(10, (), 4), (10,), "normal", own=True)
        trainer = pythae_loop.trainer(model, x, 512, 1e-3)
        for epoch in range(size.of(EPOCHS, 1)):
            trainer.train_step(epoch + 1)
        return {"value": time.perf_counter() - began, "bound": held_out(trainer.model, test)}

    return repeat


def held_out(model, x):
    """-ELBO of pythae's model at the best variance c: rate + D/2 ln(2 pi c) + D/2."""
    import torch

    with torch.no_grad():
        out = model.encoder(x)
        mean, log_variance = out.embedding, out.log_covariance
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        best = (model.decoder(z).reconstruction.reshape(x.shape) - x).square().mean()
        rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return float(rate) + x.shape[1] / 2 * (math.log(2 * math.pi * float(best)) + 1)


def summary(found):
    from speed.cases import quality

    return quality.summary(found)


CASES = [
    Case(
        "table-quality", "10^6 x 10 normals, own defaults: seconds to the held-out bound of pythae's default net",
        GOAL, "s", {"latens.VAE": latens, "pythae": pythae}, ours="latens.VAE", theirs="pythae", repeats=3,
        once=("pythae",), summary=summary,
    )
]  # fmt: skip
