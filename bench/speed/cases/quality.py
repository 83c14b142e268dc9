"""Wall-clock time until the test bound is as good as the one that pythae reaches in 50 epochs, on binary
Fashion-MNIST with the network of mlp.py.

pythae runs with Adam at 1e-3 and batches of 128, latens.train with its default settings. The time is that of the whole
call, including compiling; the bound is that of the final weights, computed by the same function for both.
"""

import time
from functools import partial

from speed.case import Case, Size

ORDER = 4
GOAL = "an eighth of pythae's seconds to the same bound (stretch: a tenth)"
EPOCHS = 50


def data(size: Size):
    import torch

    from speed import inputs

    train, test, _ = inputs.fashion(size)
    return [torch.from_numpy(inputs.binary(images)) for images in (train, test)]


def network():
    from speed.networks import Mlp

    return Mlp(784, (512,), 10)


def latens(size: Size, start: bool = False):
    """latens.train; with ``start``, the initial output biases are set to the data's mean, as in recipes."""
    import torch

    import latens
    from latens import networks, objectives
    from speed.networks import negative_elbo
    from speed.peers import ours
    from speed.peers.work import Work

    x, test = data(size)

    def repeat(number):
        torch.manual_seed(number)
        model = ours.model(Work(network(), x))
        began = time.perf_counter()
        if start:
            with torch.no_grad():
                networks.start_at(model.likelihood.network, x.mean(0).clamp(0.02, 0.98).logit())
        run = latens.train(model, objectives.ELBO(), x, seed=number, **size.of({}, {"epochs": 2}))
        seconds = time.perf_counter() - began
        bound = negative_elbo(run.model.posterior.network, run.model.likelihood.network, test, softplus=True)
        return {"value": seconds, "bound": bound, "settings": run.settings.to_json()}

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
    """The mean test bound of each contender, and whether it is as good as pythae's."""
    bounds = {who: sum(m["bound"] for m in e["more"]) / len(e["more"]) for who, e in found.items()}
    told = {f"{who}'s test -ELBO": round(bound, 2) for who, bound in bounds.items()}
    if "pythae" in bounds:
        told |= {f"{who} reaches pythae's": bool(b <= bounds["pythae"]) for who, b in bounds.items() if who != "pythae"}
    return told


CASES = [
    Case(
        "quality", "seconds to the test bound of pythae's 50 epochs", GOAL, "s",
        {"latens": latens, "latens, biases at the mean": partial(latens, start=True), "pythae": pythae},
        ours="latens", theirs="pythae", repeats=3, once=("pythae",), summary=summary,
    )
]  # fmt: skip
