"""The step as one graph: its optimiser equals torch's AdamW, a loss that is not finite changes no weight, and files
that a killed run left in the compiler's cache do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from parts import assert_same, data, trainer, vae
from torch import nn

from latens.machine.compiler import cache, compiled, has_compiler
from latens.objectives.base import Player
from latens.training import NonFiniteError, Settings
from latens.training.checkpoint import state_of
from latens.training.players import PlayerOptimizer, norm_of


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3}])
def test_compiled_and_eager_steps_agree_with_torch_adamw(clip: float, options: dict):
    """After 20 steps in float64 with a changing learning rate, weights agree to 1e-12, and so do the moments."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()

    x, nets = torch.randn(20, 5, 3, dtype=torch.float64), (net(), net(), net())
    settings = Settings(learning_rate=0.01)
    fused, plain = (PlayerOptimizer((n,), Player(list(n.parameters()), options), settings) for n in nets[:2])
    own = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.0} | options
    decayed = [p for p in nets[2].parameters() if p.dim() == 2]
    others = {"params": [p for p in nets[2].parameters() if p.dim() == 1], "weight_decay": 0.0}
    theirs = torch.optim.AdamW([{"params": decayed}, others], foreach=False, **own)
    plain.prepare()
    for step in range(20):
        factor = 1 - step / 25
        grads = [list(torch.autograd.grad(n(x[step]).square().sum(), list(n.parameters()))) for n in nets]
        fused.update(grads[0], norm_of(grads[0]).item(), factor, clip)
        scalars = torch.tensor(plain.scalars(factor), dtype=torch.float64)
        with torch.no_grad():
            plain.descend(grads[1], norm_of(grads[1]), scalars, clip, torch.tensor(True))
        for p, grad in zip(nets[2].parameters(), grads[2], strict=True):
            p.grad = grad
        if clip:
            torch.nn.utils.clip_grad_norm_(nets[2].parameters(), clip, error_if_nonfinite=True)
        for group in theirs.param_groups:
            group["lr"] = own["lr"] * factor
        theirs.step()
    for a, b, truth in zip(*(n.parameters() for n in nets), strict=True):
        assert torch.allclose(a, truth, rtol=1e-7, atol=1e-7) and torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    one, other = fused.state(), plain.state()
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name].double(), other[name].double(), rtol=1e-12, atol=1e-12), name


def test_an_option_that_a_player_does_not_know_is_refused():
    parameters = list(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match="options of a player are lr, betas, eps, weight_decay; got 'amsgrad'"):
        PlayerOptimizer((), Player(parameters, {"amsgrad": True}), Settings(learning_rate=0.01))


def test_a_row_without_a_finite_loss_changes_no_weight():
    x = data(40)
    x[7] = 1e30
    model = vae()
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    loop = trainer(model, x, epochs=3, batch_size=40, compile=True, backend="eager")
    with pytest.raises(NonFiniteError) as failure:
        loop.run()
    assert failure.value.rows == [7] and failure.value.step == 0
    assert_same(before, state_of(model))


STEP = """
import torch
from latens.machine.compiler import compiled
def step(x):
    return x.sin().exp().sum()
print(compiled(step, torch.nn.Identity(), "inductor")(torch.arange(100.0)).item().hex())
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler: torch.compile has nothing to compile with")
def test_partial_libraries_of_a_killed_run_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Loading such a library would kill the process. With every file cut in half and the marker of an unfinished run,
    the next process still gives the same number. (One small kernel, for which precompiled headers do not pay.)"""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    printed = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
        [folder] = (tmp_path / "latens").iterdir()
        assert not (folder / "unfinished").exists()
        libraries = list(folder.rglob("*.so"))
        assert libraries
        for path in libraries:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        (folder / "unfinished").touch()
    assert printed[0] == printed[1]


def test_a_cache_that_cannot_be_written_or_is_locked_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    seen = []
    with cache():
        seen.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with cache():
        seen.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    [folder] = (tmp_path / "latens").iterdir()
    with FileLock(folder / "lock"), cache(wait=0.0):
        seen.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert [each.startswith(str(tmp_path / "latens")) for each in seen] == [False, True, False]


def test_many_models_are_compiled_in_one_process():
    """This matters because torch compiles a code object at most eight times; a ninth model goes beyond."""
    for seed in range(9):
        assert trainer(vae(seed=seed), data(20), epochs=1, batch_size=10, compile=True, backend="eager").run().finished


def test_an_error_of_the_step_itself_is_the_one_that_is_reported():
    def step(x: torch.Tensor) -> torch.Tensor:
        return x @ torch.zeros(3, 3)

    with pytest.raises(Exception, match=r"shape|size"):
        compiled(step, nn.Identity(), "eager")(torch.zeros(2, 2))
    assert np.isfinite(compiled(step, nn.Identity(), "eager")(torch.zeros(2, 3)).numpy()).all()


@pytest.mark.parametrize("captured", [False, True])
def test_moments_of_weights_without_input_fade_to_zero(captured: bool):
    """If a layer's first column has a gradient once and then none, its moments end at 0 and not at subnormal numbers,
    where they would stay; weights equal those of torch's AdamW to rounding."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(2, 3), nn.Linear(2, 3)
    theirs.load_state_dict(ours.state_dict())
    own = Player(list(ours.parameters()), {"betas": (0.9, 0.9)})
    player = PlayerOptimizer((ours,), own, Settings(learning_rate=0.01))
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.9), weight_decay=0.0)
    player.prepare()
    for step in range(1200):
        grads = [torch.randn(3, 2), torch.randn(3)]
        grads[0][:, 0] *= step == 0
        for p, grad in zip(theirs.parameters(), grads, strict=True):
            p.grad = grad.clone()
        other.step()
        if not captured:
            player.update(grads, 1.0, 1.0, 0.0)
            continue
        with torch.no_grad():
            scalars = torch.tensor(player.scalars(1.0), dtype=torch.float64)
            player.descend(grads, torch.tensor(1.0), scalars, 0.0, torch.tensor(True))
    faded = torch.stack([moment[:, 0] for moment in player.moments[ours.weight]])
    stuck = torch.stack([other.state[theirs.weight][key][:, 0] for key in ("exp_avg", "exp_avg_sq")])
    assert (faded == 0).all() and (stuck != 0).any()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=2e-5, atol=1e-6)


def test_no_weight_changes_if_the_step_is_not_finite():
    layer = nn.Linear(2, 2)
    player = PlayerOptimizer((layer,), Player(list(layer.parameters())), Settings(learning_rate=0.1))
    player.prepare()
    before = [p.detach().clone() for p in layer.parameters()]
    grads = [torch.full_like(p, torch.nan) for p in layer.parameters()]
    for sound in (False, True):
        with torch.no_grad():
            scalars = torch.tensor(player.scalars(1.0), dtype=torch.float64)
            player.descend(grads, torch.tensor(torch.nan), scalars, 0.0, torch.tensor(sound))
        same = all(torch.equal(p, old) for p, old in zip(layer.parameters(), before, strict=True))
        assert same == (not sound)
