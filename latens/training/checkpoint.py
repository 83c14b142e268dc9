"""Checkpoints: tensors in safetensors and the rest in JSON. Both are replaced together by an atomic rename.

``state.json`` contains the name and the checksum of its tensor file. If a process is killed between the two writes, the
previous pair stays valid.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from latens.errors import InputError
from latens.machine.atomic import leftovers, write_bytes, write_text
from latens.machine.folder import TEXT, Folder, Part
from latens.machine.memory import memory

if TYPE_CHECKING:
    from latens.training.callbacks import Callback, Progress


RESTORE = "restore it from a copy, or fit again"


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """{name: tensor} of parameters and persistent buffers. A shared tensor appears under its first name only."""
    saved = module.state_dict()
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if name in saved}


@torch.no_grad()
def load_state(module: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Copy ``tensors`` into the module. Raise ``InputError`` for the first tensor that is missing, is superfluous or
    has another shape.

    Tensors that a part lists as ``added`` may be missing from older files. They keep their initial values.
    """
    own = state_of(module)
    added = {f"{where}.{name}" for where, part in module.named_modules() for name in getattr(part, "added", ())}
    own = {name: tensor for name, tensor in own.items() if name in tensors or name not in added}
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise InputError(f"{what} has no tensor {name!r}", "load it into a model of the same structure")
        if name not in own:
            raise InputError(
                f"{what} has a tensor {name!r} that this model lacks", "load it into a model of the same structure"
            )
        if own[name].shape != tensors[name].shape:
            raise InputError(
                f"{what}: tensor {name!r} has shape {list(tensors[name].shape)}, but this model needs "
                f"{list(own[name].shape)}",
                "load it into a model of the same shape",
            )
    with restoring(what):
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise InputError(f"{what}: tensor {name!r} has values that are not finite", RESTORE)


@contextmanager
def restoring(path: object) -> Iterator[None]:
    """Report any failure within the block as damage to the file at ``path``, which latens wrote."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path} is damaged ({reason:.150})", RESTORE) from error


def digest(data: bytes) -> str:
    """The sha256 of ``data``, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def pack(tensors: dict[str, Tensor]) -> bytes:
    """The tensors as the bytes of a safetensors file."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def read_whole(path: Path | Part, expected: str | None, missing: str = RESTORE, most: int = TEXT) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes. Raise ``InputError`` unless its sha256 is ``expected``
    (None: any)."""
    try:
        data = Part.of(path).read(most)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {missing}") from None
    if expected is not None and digest(data) != expected:
        raise InputError(f"{path} is damaged (its checksum does not match)", RESTORE)
    return data


def unpack(path: Path | Part, expected: str | None, missing: str = RESTORE) -> dict[str, Tensor]:
    """The tensors of a safetensors file, read by :func:`read_whole`. Raise ``InputError`` if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = read_whole(path, expected, missing, memory())
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})", RESTORE) from None


def dumps(value: Any) -> str:
    """JSON with exact floats. NaN and infinities are written as objects that :func:`loads` can read."""
    return json.dumps(_encode(value), indent=1, allow_nan=False)


def _encode(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def loads(text: str) -> Any:
    """The value that :func:`dumps` wrote."""
    return json.loads(text, object_hook=lambda d: float(d["float"]) if d.keys() == {"float"} else d)


def sealed(record: dict[str, Any]) -> str:
    """The record as JSON text that includes a checksum of the record."""
    body = {key: value for key, value in record.items() if key != "checksum"}
    return dumps(body | {"checksum": digest(dumps(body).encode())}) + "\n"


def unseal(path: Path | Part, what: str, remedy: str = RESTORE) -> dict[str, Any]:
    """The record of a JSON file written by :func:`sealed`. Raise ``InputError`` if the file is missing (with ``what``
    in the message), is not JSON or was altered (with ``remedy``)."""
    try:
        record = loads(Part.of(path).read().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {what}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {what}") from None
    except InputError:
        raise
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{path} is damaged (not valid JSON)", remedy) from None
    if not isinstance(record, dict) or "checksum" not in record:
        raise InputError(f"{path} is damaged (no checksum)", remedy)
    body = {key: value for key, value in record.items() if key != "checksum"}
    if digest(dumps(body).encode()) != record["checksum"]:
        raise InputError(f"{path} is damaged (its checksum does not match)", remedy)
    return body


@dataclass
class Log:
    """What accompanies a run: its checkpoints, its progress, a function that receives the history after each
    validation, the callbacks, and the description of the run that callbacks receive. ``closing`` changes the trained
    model; the change is undone if it lowers the held-out bound."""

    store: Checkpoints | None = None
    progress: Progress | None = None
    on_round: Callable[[list[dict[str, Any]]], None] = lambda history: None
    callbacks: tuple[Callback, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    closing: Callable[[], None] | None = None


class Checkpoints:
    """The ``checkpoint/`` folder of a run.

    >>> import tempfile
    >>> store = Checkpoints(Path(tempfile.mkdtemp()))
    >>> store.save({"w": torch.ones(2)}, {"step": 3})
    >>> store.load()[1]["step"]
    3
    """

    def __init__(self, folder: Path | Folder):
        self.folder = folder if isinstance(folder, Folder) else Folder(folder)

    def exists(self) -> bool:
        """Whether there is a checkpoint."""
        return (self.folder / "state.json").exists()

    def save(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Replace the checkpoint. ``record`` contains the number of the step as "step"."""
        self.folder.make()
        data = pack(tensors)
        name = f"step-{int(record['step']):09d}-{digest(data)[:8]}.safetensors"
        write_bytes(self.folder / name, data)
        write_text(self.folder / "state.json", sealed(record | {"tensors": name, "sha256": digest(data)}))
        self._keep_only(name)

    def tidy(self) -> None:
        """Remove what a killed process left behind: unfinished files, and tensors that the state does not name."""
        name = str(unseal(self.folder / "state.json", "there is no checkpoint").get("tensors")) if self.exists() else ""
        self._keep_only(name)

    def _keep_only(self, name: str) -> None:
        for old in [*self.folder.parts("step-*.safetensors"), *leftovers(self.folder)]:
            if old.name != name:
                old.remove()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, record) of the checkpoint. Raise ``InputError`` if it is missing or damaged."""
        record = unseal(self.folder / "state.json", "there is no checkpoint to resume from")
        file = self.folder / str(record.get("tensors", ""))
        return unpack(file, str(record.get("sha256", "")), "there is no checkpoint to resume from"), record
