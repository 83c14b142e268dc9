"""A JAX loop: one jitted scan over the steps of an epoch, optax's Adam; fully connected networks."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from speed.case import Absent, Repetition
from speed.peers.work import Work

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise Absent(f"JAX cannot be imported ({error}): pip install jax optax") from error


def layers(key: Any, sizes: tuple[int, ...]) -> list[Any]:
    """Weights and biases, uniform in +- 1 / sqrt(inputs) as torch draws them."""
    made = []
    for before, after in pairwise(sizes):
        key, one, two = jax.random.split(key, 3)
        bound = before**-0.5
        weight = jax.random.uniform(one, (before, after), minval=-bound, maxval=bound)
        made.append((weight, jax.random.uniform(two, (after,), minval=-bound, maxval=bound)))
    return made


def apply(parameters: list[Any], x: Any) -> Any:
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[-1]
    return x @ weight + bias


def training(work: Work) -> Repetition:
    if work.device not in {d.platform.replace("gpu", "cuda") for d in jax.devices()}:
        raise Absent(f"this build of JAX has no {work.device}")
    one, two = jax.random.split(jax.random.key(0))
    parameters = (layers(one, work.network.encoder_sizes), layers(two, work.network.decoder_sizes))
    optimizer = optax.adam(work.rate)

    def loss(parameters: Any, x: Any, key: Any) -> Any:
        mean, log_variance = jnp.split(apply(parameters[0], x), 2, -1)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        logits = apply(parameters[1], z)
        cost = jax.nn.softplus(logits) - x * logits if work.loss == "bernoulli" else 0.5 * (logits - x) ** 2
        rate = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
        return (cost.sum() + rate.sum()) / x.shape[0]

    def epoch(parameters: Any, state: Any, data: Any, key: Any) -> Any:
        def step(carry: Any, given: Any) -> Any:
            parameters, state = carry
            rows, key = given
            value, gradient = jax.value_and_grad(loss)(parameters, data[rows], key)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(parameters, updates), state), value

        one, two = jax.random.split(key)
        order = jax.random.permutation(one, data.shape[0])[: work.steps * work.batch]
        given = (order.reshape(work.steps, work.batch), jax.random.split(two, work.steps))
        (parameters, state), values = jax.lax.scan(step, (parameters, state), given)
        return parameters, state, values.mean()

    run = jax.jit(epoch, donate_argnums=(0, 1))
    data, state = jnp.asarray(work.x), optimizer.init(parameters)
    key = jax.random.key(1)
    parameters, state, value = run(parameters, state, data, key)  # compile
    value.block_until_ready()

    def repeat(number: int) -> dict[str, Any]:
        nonlocal parameters, state
        began = time.perf_counter()
        for pass_ in range(work.epochs):
            parameters, state, value = run(parameters, state, data, jax.random.key(2 + number * work.epochs + pass_))
        value.block_until_ready()
        return {"value": work.figure(time.perf_counter() - began), "loss": float(value)}

    return repeat
