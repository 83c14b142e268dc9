"""Laws of masked convolutions over grids of codes."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commanding import done, figures
from laws import Z
from scipy import stats
from torch import Tensor

from latens import densities
from latens.data import infer
from latens.densities import Codes, PixelCNN
from latens.densities.pixelcnn import pixelcnn
from latens.errors import InputError
from latens.recipes import Recipe
from latens.recipes.choices import DataInfo
from latens.tensors.randomness import seeded

pytestmark = pytest.mark.usefixtures("one_thread")
GRIDS = [(1, 4), (2, 2), (4, 1), (2, 3)]


def made(rows: int, columns: int, levels: int = 3, kernel: int = 3, layers: int = 3) -> PixelCNN:
    """A model far from its near-uniform start, in float64."""
    with seeded(1):
        density = PixelCNN(rows, columns, levels, 8, layers, kernel).double()
        for p in density.parameters():
            p.data.add_(0.5 * torch.randn_like(p))
    return density


def every(positions: int, levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=positions)))


@pytest.mark.parametrize("rows, columns", GRIDS)
def test_masses_of_all_grids_sum_to_one(rows: int, columns: int):
    masses = made(rows, columns).log_prob(every(rows * columns, 3)).exp()
    assert float(masses.sum()) == pytest.approx(1, abs=1e-12)
    assert float(masses.max()) > 3 * float(masses.min())


@pytest.mark.parametrize("rows, columns, kernel, layers", [(1, 9, 3, 8), (3, 4, 3, 6), (5, 5, 5, 4), (6, 1, 3, 6)])
def test_a_position_depends_only_on_earlier_positions(rows, columns, kernel, layers):
    """Gradients with respect to the embedded codes are exactly zero from the position itself on and, with enough
    layers, not zero for any earlier position (no blind spot)."""
    network = made(rows, columns, kernel=kernel, layers=layers).network
    places = rows * columns
    inputs: list[Tensor] = []
    network.level.register_forward_hook(lambda _, __, out: inputs.append(out.requires_grad_()) or out)
    logits = network(torch.randint(3, (1, places - 1)))
    [embedded] = inputs
    for place in range(places):
        [gradient] = torch.autograd.grad(logits[0, place].square().sum(), embedded, retain_graph=True)
        seen = gradient[0].abs().sum(-1).flatten() > 0
        assert seen.tolist() == [other < place for other in range(places)], place


def test_the_log_mass_is_the_product_of_conditionals_asked_one_by_one():
    """Positions that are not known yet may hold anything."""
    density = made(2, 3)
    drawn = density.sample(7, seed=3)
    for string, found in zip(drawn, density.log_prob(drawn)):
        total = 0.0
        for place in range(6):
            with torch.no_grad():
                total += float(density.network(string[None, :place])[0, -1].log_softmax(-1)[string[place]])
        assert float(found) == pytest.approx(total, abs=1e-10)


def test_frequencies_of_samples_are_their_masses():
    """Chi-square over all 81 grids, 20,003 samples; p > 1e-5. Any number can be drawn, not only a multiple of what is
    drawn at once."""
    density = made(2, 2)
    expected = density.log_prob(every(4, 3)).exp().numpy() * 20_003
    drawn = density.sample(20_003, seed=7)
    counts = np.bincount((drawn * torch.tensor([27, 9, 3, 1])).sum(1).numpy(), minlength=81)
    few = expected < 5
    seen, wanted = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    keep = wanted > 0
    assert stats.chisquare(seen[keep], wanted[keep] * seen[keep].sum() / wanted[keep].sum()).pvalue > 1e-5
    for size in (1, 999, 1000, 1001, 2500):
        assert density.sample(size, seed=0).shape == (size, 4)


def chain(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Grids of 3 x 4 codes with 4 levels: the first row is a Markov chain, and so is each column, from the code
    above."""
    z = np.zeros((rows, 3, 4), int)
    z[:, 0, 0] = rng.integers(0, 4, rows)
    for r, c in itertools.product(range(3), range(4)):
        if r or c:
            before = z[:, r - 1, c] if r else z[:, 0, c - 1]
            moved = np.where(rng.random(rows) < 0.85, 0, rng.integers(1, 4, rows))
            z[:, r, c] = (before + moved) % 4
    return z.reshape(rows, -1)


def test_the_entropy_of_a_known_chain_is_found():
    """-ln p of new grids is the chain's entropy ln 4 + 11 H, within 4 standard errors plus 0.02 nats per code for
    learning from 3,600 grids. A model of the flattened string with a short receptive field could not get there: the
    code above is outside it."""
    rng = np.random.default_rng(0)
    step = -(0.85 * math.log(0.85) + 0.15 * math.log(0.05))
    truth = math.log(4) + 11 * step
    found = Codes.split(torch.from_numpy(chain(4000, rng)), levels=4, grid=(3, 4))
    density = pixelcnn(found, width=32, layers=2, kernel=3, epochs=15)
    scores = density.log_prob(torch.from_numpy(chain(4000, rng))).numpy()
    error = scores.std() / math.sqrt(len(scores))
    assert -4 * error < -scores.mean() - truth < 4 * error + 12 * 0.02, (-scores.mean(), truth, error)


def test_codes_that_are_not_whole_numbers_and_bad_options_are_refused():
    with pytest.raises(InputError, match="these are real"):
        pixelcnn(Codes.split(torch.randn(20, 2)))
    whole = Codes.split(torch.randint(4, (20, 3)), levels=4)
    for wrong in ({"kernel": 4}, {"kernel": 1}, {"layers": 0}, {"width": 0.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            pixelcnn(whole, **wrong)


@pytest.mark.parametrize("recipe", ["vq", "residual_vq", "fsq"])
def test_whole_number_codes_of_a_run_are_fitted_kept_and_sampled(recipe: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--recipe", recipe, "--epochs", "2", "--batch-size", "256")
    first = figures("density", "run", "--kind", "pixelcnn", "--width", 8, "--layers", 2, "--epochs", 2)
    assert first["fitted"] and first["held_out"] > first["prior"]
    assert not figures("density", "run", "--kind", "pixelcnn", "--width", 8, "--layers", 2, "--epochs", 2)["fitted"]
    done("sample", "run", "--density", "pixelcnn", "-n", "1001", "--out", "x.npy")
    assert np.load("x.npy").shape[0] == 1001
    assert densities.KINDS["pixelcnn"].whole and Z > 4


# Codes on a grid


def test_each_code_of_the_grid_describes_its_part_of_the_image():
    """With 16 x 16 images and 4 x 4 codes, changing a patch changes only codes near it, and changing a code changes
    only pixels near it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (40, 16, 16)).astype("uint8")
    schema = infer(x)
    inside = torch.as_tensor(schema.to_model(x))
    torch.manual_seed(0)
    model, _ = Recipe("vq_grid", halvings=2, latent_dim=4).build(DataInfo(schema, 40, inside))
    assert model.prior.layout == (4, 4) and model.prior.dim == 16
    away = inside.clone()
    away[:, :, :2, :2] = 8 - away[:, :, :2, :2]
    with torch.no_grad():
        change = (model.encode(away).before - model.encode(inside).before).view(40, 4, 4, 4).abs().sum((0, -1))
        z = model.encode(inside).sample()
        moved = z.clone().view(40, 4, 4, 4)
        moved[:, 0, 0] += 1
        pixels = (model.decode(moved.flatten(1)).mean - model.decode(z).mean).abs().sum((0, 1))
    assert change[0, 0] > 0.01 and change[3].max() < 1e-4 and change[:, 3].max() < 1e-4  # rounding
    assert pixels[0, 0] > 0.01 and pixels[-1, -1] < 1e-4


def test_codes_without_a_grid_are_refused():
    info = DataInfo(infer(np.random.default_rng(0).normal(size=(20, 5))), 20)
    with pytest.raises(InputError, match="use the recipe 'vq'"):
        Recipe("vq_grid").build(info)
    info = DataInfo(infer(np.random.default_rng(0).integers(0, 9, (20, 8, 8)).astype("uint8")), 20)
    for wrong in (4, -1, 0.5):
        with pytest.raises(InputError, match="halvings"):
            Recipe("vq_grid", halvings=wrong).build(info)


def test_the_density_sees_codes_of_a_grid_as_a_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done("fit", "digits", "--out", "run", "--recipe", "vq_grid", "--epochs", "1", "--batch-size", "256")
    figures("density", "run", "--kind", "pixelcnn", "--width", 8, "--layers", 1, "--epochs", 1)
    record = json.loads(Path("run/densities/pixelcnn.json").read_text())
    assert record["config"]["rows"] == record["config"]["columns"] == 4
    done("sample", "run", "--density", "pixelcnn", "-n", "5", "--out", "x.npy")
