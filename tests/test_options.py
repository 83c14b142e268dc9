"""The options of training are defined once, in ``Settings``; the command line and the estimator take them from
there."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest
from typer.main import get_command

from latens import VAE, InputError
from latens.cli.main import app
from latens.cli.options import TITLES
from latens.training.settings import INNER, Settings

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
SETTINGS = {each.name: each for each in fields(Settings)}
# for each option, a value that it refuses
REFUSED: dict[str, Any] = {
    "epochs": 0, "batch_size": 1.5, "learning_rate": 0, "warmup": 2, "weight_decay": -1, "beta2": 1, "clip": -0.1,
    "skip_norm": float("nan"), "decay": "none", "kl_warmup": 1.1, "average": 1, "patience": -1, "keep": "first",
    "seed": 2**63, "compile": "yes", "precision": "bf8", "device": 0, "checkpoint_seconds": -1,
}  # fmt: skip


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_the_command_line_has_the_options_of_training(command: str):
    given = {param.name: param for param in COMMANDS[command].params}
    for name, setting in SETTINGS.items():
        assert (name in given) is (name not in INNER), name
        if name in given:
            assert given[name].default == setting.default and given[name].help == setting.metadata["help"], name


def test_the_estimator_has_names_and_defaults_of_settings():
    own = {name: each.default for name, each in inspect.signature(VAE).parameters.items() if name in SETTINGS}
    assert own == {name: SETTINGS[name].default for name in own}
    assert {"epochs", "batch_size", "learning_rate", "kl_warmup", "average", "patience", "device"} == own.keys()
    vae = VAE(epochs=2, batch_size=7, learning_rate=0.01, kl_warmup=0.5, average=0.5, patience=3, device="cpu")
    settings = vae.fit([[0.0, 1.0], [1.0, 2.0], [3.0, 1.0]] * 5).run_.settings
    assert {name: getattr(settings, name) for name in own} == {name: getattr(vae, name) for name in own}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_refuse_values_outside_their_range(name: str):
    words = SETTINGS[name].metadata["values"].words
    with pytest.raises(InputError, match=rf"^{name} must be {words.replace('^', '.')}, got "):
        Settings(**{name: REFUSED[name]})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str):
    """Each help text is a sentence that begins with an imperative; the first sentence of a command fits the list of
    commands."""
    command = COMMANDS[name]
    assert re.match(r"[A-Z][a-z]+ .*[^.]\.$", command.get_short_help_str(61)), command.get_short_help_str(61)
    for param in command.params:
        assert re.match(r"[A-Z][a-z]+ .*[.!]$", param.help or "", re.DOTALL), param.name
        assert getattr(param, "is_flag", False) or param.metavar, param.name  # N, FILE, …: not a Python type


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_titles_and_fits_the_terminal(name: str, columns: int):
    command = COMMANDS[name]
    text = command.get_help(
        command.context_class(command, info_name=name, max_content_width=columns, terminal_width=columns)
    )
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [title for title in TITLES if title in titles] and titles[-1] == "Help"
    assert text[text.rindex("Help:") :].count("--") == 1  # all other options stand under their titles
    assert max(map(len, text.splitlines())) <= columns
    if name in ("fit", "sweep"):
        assert "Options" not in titles and {"Model", "Data", "Training", "Runs"} <= {*titles}
