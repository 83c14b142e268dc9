"""Fitted densities in the folder of their run: a sealed ``densities/KIND.json`` names the file of tensors.

The tensors are written first, under the name of their checksum, and then the JSON. So if a process is killed between
the two, the previous density is still in place.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from latens.densities.fitted import Fitted
from latens.densities.kinds import kind_of
from latens.errors import InputError
from latens.machine.allocation import ROOM, Modest
from latens.machine.atomic import leftovers, write_bytes, write_text
from latens.machine.folder import Folder
from latens.training.checkpoint import digest, load_state, pack, restoring, sealed, state_of, unpack, unseal

FORMAT, DENSITIES = 1, "densities"


def save(folder: str | Path, fitted: Fitted, model: nn.Module) -> None:
    """Save a density in a run's folder, where it replaces an earlier one of the same kind."""
    place = Folder(folder).inside(DENSITIES)
    place.make()
    data = pack(state_of(fitted.density))
    name = f"{fitted.kind}-{digest(data)[:8]}.safetensors"
    write_bytes(place / name, data)
    record = fitted.to_json() | {"format": FORMAT, "model": weights_of(model), "tensors": name, "sha256": digest(data)}
    write_text(place / f"{fitted.kind}.json", sealed(record))
    for old in [*place.parts(f"{fitted.kind}-*.safetensors"), *leftovers(place)]:
        if old.name != name:
            with suppress(OSError):
                old.remove()


def load(folder: str | Path, kind: str, model: nn.Module, options: dict[str, Any] | None = None) -> Fitted | None:
    """The density of that kind; None if the folder has none that fits.

    A density fits if it was fitted to codes of the model with its present weights and, if ``options`` are given, with
    these options. ``InputError`` if its files are damaged.
    """
    kind_of(kind)
    place = Folder(folder).inside(DENSITIES)
    path = place / f"{kind}.json"
    if not path.exists():
        return None
    record = unseal(path, "there is no density")
    if record.get("format") != FORMAT:
        what = f"{path} has a format that this version cannot read"
        raise InputError(what, "remove it, and the density will be fitted again")
    if record.get("model") != weights_of(model) or options not in (None, record.get("options")):
        return None
    file, remedy = place / str(record.get("tensors")), f"remove {path}, and the density will be fitted again"
    tensors = unpack(file, str(record.get("sha256")), remedy)
    with restoring(path), Modest(4 * sum(t.nbytes for t in tensors.values()) + ROOM, path):
        fitted = Fitted.from_json(record, model)
    load_state(fitted.density, tensors, str(file))
    fitted.density.eval()
    with restoring(path):
        z = fitted.draw(model, 1)
        fitted.line()
    if not z.isfinite().all():
        raise InputError(f"{path} gives codes that are not finite", remedy)
    found, wanted = list(z.shape[1:]), _shape_of_codes(model)
    if wanted not in (None, found):
        raise InputError(f"{path} has codes of shape {found}, but the codes of this run have shape {wanted}", remedy)
    return fitted


def _shape_of_codes(model: Any) -> list[int] | None:
    """The shape of a code, if the prior determines it; else None."""
    with suppress(AttributeError, KeyError, NotImplementedError, TypeError):
        return list(model.prior().event_shape)
    return None


def weights_of(model: nn.Module) -> str:
    """A checksum of the model's weights, which identifies the codes to which a density was fitted."""
    return digest(pack(state_of(model)))
