"""Wall time until the test bound is what pythae reaches in 50 epochs: grey Fashion-MNIST, the network of mlp.py.

pythae with its defaults (Adam 1e-3 here, as published for images; batch 128); latens.train with its default settings,
and latens.VAE with its defaults for a fully connected network. Time is that of the whole call, compiling included;
the bound is that of the weights it leaves, one function for the same network.
"""

import time

from speed.case import Case, Size

ORDER = 4
GOAL = "a fifth of pythae's seconds at its bound (stretch: an eighth)"
EPOCHS = 50


def data(size: Size):
    import torch

    from speed import inputs

    train, test, _ = inputs.fashion(size)
    return [torch.from_numpy(inputs.grey(images)) for images in (train, test)]


def network():
    from speed.networks import Mlp

    return Mlp(784, (512,), 10)


def latens(size: Size):
    import torch

    import latens
    from latens import objectives
    from speed.networks import negative_elbo
    from speed.peers import ours
    from speed.peers.work import Work

    x, test = data(size)

    def repeat(number):
        torch.manual_seed(number)
        model = ours.model(Work(network(), x))
        began = time.perf_counter()
        run = latens.train(model, objectives.ELBO(), x, seed=number)
        seconds = time.perf_counter() - began
        bound = negative_elbo(run.model.posterior.network, run.model.likelihood.network, test, softplus=True)
        return {"value": seconds, "bound": bound, "settings": run.settings.to_json()}

    return repeat


def estimator(size: Size):
    import torch

    import latens
    from latens import evaluation

    x, test = (part.numpy() for part in data(size))

    def repeat(number):
        began = time.perf_counter()
        vae = latens.VAE(10, likelihood="bernoulli", network="mlp", random_state=number).fit(x)
        seconds = time.perf_counter() - began
        bound = evaluation.elbo(vae.model_, torch.from_numpy(test))
        return {"value": seconds, "bound": -bound.elbo, "settings": vae.run_.settings.to_json()}

    return repeat


def pythae(size: Size):
    import torch

    from speed.networks import negative_elbo
    from speed.peers import pythae_loop

    x, test = data(size)

    def repeat(number):
        torch.manual_seed(number)
        began = time.perf_counter()
        trainer = pythae_loop.trainer(pythae_loop.model(network(), (784,), "bernoulli"), x, 128, 1e-3)
        for epoch in range(size.of(EPOCHS, 1)):
            trainer.train_step(epoch + 1)
        seconds = time.perf_counter() - began
        model = trainer.model
        return {"value": seconds, "bound": negative_elbo(model.encoder.net, model.decoder.net, test, softplus=False)}

    return repeat


def summary(found):
    """Mean test bound of each, and whether it is as good as pythae's."""
    bounds = {who: sum(m["bound"] for m in e["more"]) / len(e["more"]) for who, e in found.items()}
    told = {f"{who}'s test -ELBO": round(bound, 2) for who, bound in bounds.items()}
    if "pythae" in bounds:
        told |= {f"{who} reaches pythae's": bool(b <= bounds["pythae"]) for who, b in bounds.items() if who != "pythae"}
    return told


CASES = [
    Case(
        "quality", "seconds to the test bound of pythae's 50 epochs", GOAL, "s",
        {"latens": latens, "latens.VAE": estimator, "pythae": pythae},
        ours="latens", theirs="pythae", repeats=3, once=("pythae",), summary=summary,
    )
]  # fmt: skip
