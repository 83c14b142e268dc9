"""Map-style datasets of torch: codes equal those of the same rows as an array or a mapping of columns, and datasets
without rows, or with rows of different forms, are refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import latens
from latens import VAE, InputError, conditionals, models, objectives, priors
from latens.data import datasets

random = np.random.default_rng(0)
ROWS = 40
X = random.normal(size=(ROWS, 4)).astype(np.float32)
Y = random.integers(0, 3, ROWS)
PIXELS = random.integers(0, 256, (ROWS, 6, 6), dtype=np.uint8)
WORDS = np.array(["a", "b", "c"])[Y]
GAPS = [None if i % 3 else float(i) for i in range(ROWS)]
QUICK: dict[str, Any] = {"latent_dim": 2, "epochs": 1, "random_state": 0}


class Items(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any], rows: int = ROWS):
        self.item, self.rows = item, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(X)


class Lengthless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return X[index]


def person(i: int) -> dict[str, Any]:
    return {"size": float(X[i, 0]), "n": int(Y[i]), "word": str(WORDS[i]), "t": torch.tensor(X[i, 1]), "gap": GAPS[i]}


PEOPLE = {"size": X[:, 0].astype(float).tolist(), "n": Y.tolist(), "word": WORDS.tolist(),
          "t": X[:, 1].astype(float).tolist(), "gap": GAPS}  # fmt: skip
pair = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
SAME: dict[str, tuple[Dataset[Any], Any]] = {
    "tensors": (TensorDataset(torch.from_numpy(X)), X),
    "pairs": (pair, X),
    "part": (Subset(pair, range(0, ROWS, 2)), X[::2]),
    "arrays": (Items(lambda i: X[i]), X),
    "lists": (Items(lambda i: X[i].tolist()), X.astype(np.float64)),
    "gaps": (Items(lambda i: np.where(X[i] > 1, np.nan, X[i])), np.where(X > 1, np.nan, X)),
    "pixels": (Items(lambda i: (PIXELS[i], int(Y[i]))), PIXELS),
    "pictures": (Items(lambda i: (Image.fromarray(PIXELS[i]), "word")), PIXELS),
    "named pictures": (Items(lambda i: {"image": Image.fromarray(PIXELS[i]), "label": int(Y[i])}), PIXELS),
    "floats of pixels": (Items(lambda i: torch.from_numpy(PIXELS[i][None]) / 255), PIXELS[:, None] / np.float32(255)),
    "cells": (Items(person), PEOPLE),
}


@pytest.mark.parametrize("name", SAME)
def test_a_dataset_equals_its_rows(name: str):
    data, rows = SAME[name]
    one, two = (VAE(**QUICK).fit(each) for each in (data, rows))
    assert one.schema_ == two.schema_
    codes = one.transform(rows)
    assert np.array_equal(one.transform(data), codes) and np.array_equal(two.transform(data), codes)
    made = (one.sample(3, random_state=0), one.reconstruct(data))
    for found, wanted in zip(made, (two.sample(3, random_state=0), two.reconstruct(rows))):
        assert type(found) is type(wanted) and str(found) == str(wanted)


def test_labels_of_a_dataset_are_a_condition(monkeypatch: pytest.MonkeyPatch):
    data = Items(lambda i: (PIXELS[i], str(WORDS[i])))
    vae = VAE(condition="label", **QUICK).fit(data)
    assert vae.run_.given is not None and vae.run_.given.field("label").levels == ("a", "b", "c")
    turned = Items(lambda i: (PIXELS[i], "a"))
    assert not np.array_equal(vae.transform(data), vae.transform(turned))
    codes = vae.transform(data)
    monkeypatch.setattr(datasets, "free_memory", lambda: 1000)  # rows that do not fit are made when they are needed
    assert isinstance(datasets.labelled(data).x, datasets.DatasetRows)
    assert np.array_equal(vae.transform(data), codes)
    weights = np.arange(ROWS) % 3
    again = VAE(condition="label", **QUICK).fit(data)
    assert again.run_.given is not None and again.run_.given.field("label").levels == ("a", "b", "c")
    monkeypatch.undo()
    weighed = VAE(condition="label", **QUICK).fit(data, sample_weight=weights)  # labels stay with their rows
    repeated = np.repeat(np.arange(ROWS), weights)
    whole = VAE(condition="label", **QUICK).fit(Items(lambda i: data[repeated[i]], len(repeated)))
    assert np.array_equal(weighed.transform(data), whole.transform(data))


def own_model() -> models.VAE:
    torch.manual_seed(0)
    posterior = conditionals.DiagonalNormalPosterior(nn.Linear(4, 2))
    return models.VAE(priors.StandardNormal(1), posterior, conditionals.NormalLikelihood(nn.Linear(1, 4)))


def test_training_reads_a_dataset():
    def bound(data: Any, held: Any) -> float:
        run = latens.train(own_model(), objectives.ELBO(), data, validation=held, epochs=2)
        return run.history[-1]["validation_bound"]

    assert bound(pair, Subset(pair, range(8))) == bound(X, X[:8])
    both = datasets.tree(Items(lambda i: {"left": X[i], "right": torch.from_numpy(PIXELS[i])}))
    assert np.array_equal(both["left"], X) and np.array_equal(both["right"], PIXELS)


def broken(i: int) -> Any:
    if i == 5:
        raise KeyError("lost")
    return X[i]


BAD: dict[str, tuple[Any, str]] = {
    "loader": (DataLoader(pair), "the data are a DataLoader: give its dataset (loader.dataset), and batch_size"),
    "iterable": (
        Endless(),
        "the data are an iterable dataset (Endless), whose rows cannot be asked for by number: give a dataset with "
        "__getitem__ and __len__, or an array of its rows",
    ),
    "no length": (Lengthless(), "the dataset Lengthless has no length: define __len__"),
    "empty": (Items(person, 0), "the dataset has no rows: give at least two"),
    "ragged": (
        Items(lambda i: X[i, : 1 + i % 3]),
        "item 1 of the dataset has the shape [2], but the first has [1]: cut or pad the items to one shape",
    ),
    "broken": (
        Items(broken), "item 5 of the dataset (of 40) cannot be read (KeyError: 'lost'): correct the dataset"
    ),
    "words": (Items(lambda i: "abc"), "item 0 of the dataset is the text 'abc': give numbers"),
    "keys": (
        Items(lambda i: {"a": 1.0} if i < 7 else {"b": 1.0}),
        "item 7 of the dataset is a mapping of b, but the first is a mapping of a: give items of one form",
    ),
    "forms": (
        Items(lambda i: (X[i],) if i == 3 else (X[i], 1)),
        "item 3 of the dataset is a tuple of 1, but the first is a tuple of 2: give items of one form",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_datasets_whose_rows_differ_in_form_are_refused(name: str):
    data, said = BAD[name]
    for attempt in (lambda: VAE(**QUICK).fit(data), lambda: latens.train(own_model(), objectives.ELBO(), data)):
        with pytest.raises(InputError) as error:
            attempt()
        assert str(error.value) == said


def test_items_that_are_not_one_row_are_refused():
    for item, said in (
        (lambda i: 1.0, "an item of the dataset is a single number: give arrays of one axis or more"),
        (
            lambda i: {"a": X[i], "b": X[i]},
            "an item of the dataset has the arrays a, b, but a row is one array: give a dataset of one, or train a "
            "model of several with latens.train",
        ),
    ):
        with pytest.raises(InputError) as error:
            VAE(**QUICK).fit(Items(item))
        assert str(error.value) == said
