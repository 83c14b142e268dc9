"""Runs on a hub of models: push one with its model card, pull one from somebody else (Hugging Face Hub).

Only files that belong to a run are taken, by their names and sizes. They are checked before they are put in place.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from latens.errors import InputError
from latens.machine.folder import TEXT, Folder
from latens.runs import record as runs
from latens.runs.card import card
from latens.training.checkpoint import sealed

SCHEME = "hf://"
# The shared files of a run's folder: not pages, which hold rows of the data, nor files that only training needs.
SHARED = ("run.json", "model.safetensors", "metrics.csv", runs.CALIBRATION, "densities/*.json",
          "densities/*.safetensors")  # fmt: skip
CARD = "README.md"
_PLACES = ("origin", "labels", "weights", "validation_origin", "from")  # paths of this machine in run.json
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push(folder: str | Path, name: str, *, public: bool = False) -> dict[str, Any]:
    """Put a finished run on the hub, as the repository USER/NAME, with a model card.

    The files needed to load and describe the model are sent, in one commit; paths in run.json lose their folders. Pages
    with rows of the data (report.html, explore.html) and checkpoints are not sent. Files of an earlier push are
    replaced.

    Args:
        folder: the run's folder.
        name: "USER/NAME".
        public: whether everybody may read the repository, if this push creates it.

    Returns:
        ``url``, and the ``files`` sent.

    Raises:
        InputError: there is no finished run, no such user or no permission; the repository contains other files; or
            the hub does not answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    require_name(name)
    record = runs.read_record(folder)
    runs.weights(folder, record)
    content: dict[str, bytes] = {path: part.read(1 << 40) for path, part in _parts(folder)}
    kept = {key: PurePath(value).name if key in _PLACES and value else value for key, value in record["data"].items()}
    content["run.json"] = sealed(record | {"data": kept}).encode()
    content[CARD] = card(record, runs.read_metrics(Path(folder), None), name).encode()
    with _answering(name) as api:
        url = str(api.create_repo(name, exist_ok=True, private=not public))
        there = api.list_repo_files(name)
        if "run.json" not in there and (other := [each for each in there if each not in (".gitattributes", CARD)]):
            what = f"{name} on the hub holds something other than a run ({other[0]})"
            raise InputError(what, "name another repository")
        gone = [each for each in there if _is_shared(each) and each not in content]
        steps: list[Any] = [CommitOperationAdd(path, data) for path, data in content.items()]
        steps += [CommitOperationDelete(path) for path in gone]
        api.create_commit(name, steps, commit_message="a run of latens")
    return {"url": url, "files": sorted(content)}


def pull(name: str, out: str | Path) -> list[str]:
    """Get the run USER/NAME from the hub into the new folder ``out``; returns its files.

    Raises:
        InputError: the folder exists, or the hub does not answer, lacks the run, or holds something that is not a valid
            run. Nothing is left behind.
    """
    require_name(name)
    target = runs.require_free(out)
    if target.exists():
        raise InputError(f"{target} exists already", "name another folder")
    parent = Path(os.path.abspath(target)).parent
    if not parent.is_dir():
        raise InputError(f"cannot write {out}, as the folder {parent} does not exist", "make the folder first")
    with tempfile.TemporaryDirectory(dir=parent, prefix=".pull-") as temporary:
        place = Path(temporary) / "run"
        files = _fetch(name, place)
        os.replace(place, target)
    return files


def is_on_hub(folder: Any) -> bool:
    """Whether a run is given by its address on the hub, ``hf://USER/NAME``."""
    return isinstance(folder, str) and folder.startswith(SCHEME)


_FETCHED: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def fetched(address: str) -> Path:
    """The folder of the run ``hf://USER/NAME``, which lasts as long as this process; errors as in :func:`pull`."""
    name = address.removeprefix(SCHEME)
    require_name(name)
    kept = tempfile.TemporaryDirectory(prefix="latens-")
    _fetch(name, Path(kept.name) / "run")
    _FETCHED.append(kept)
    return Path(kept.name) / "run"


def require_name(name: str) -> None:
    """Raise ``InputError`` unless the name has the form of a repository's name, USER/NAME."""
    if not _NAME.fullmatch(name) or ".." in name or len(name) > 200:
        raise InputError(f"{name!r} is not the name of a repository", "give USER/NAME")


def _parts(folder: str | Path) -> Iterator[tuple[str, Any]]:
    """(path in the repository, file) of each file of a run's folder that is shared."""
    whole = Folder(folder)
    for place, before in ((whole, ""), (whole.inside("densities"), "densities/")):
        for part in place.parts():
            if _is_shared(before + part.name):
                yield before + part.name, part


def _is_shared(path: str) -> bool:
    """Whether a path in a repository is that of a file of a run."""
    plain = re.fullmatch(r"(densities/)?[\w-][\w.-]*", path) is not None
    return plain and any(fnmatch(path, pattern) for pattern in SHARED)


def _fetch(name: str, place: Path) -> list[str]:
    """Download the files of a run into the new folder ``place``, and check them."""
    with _answering(name) as api:
        found = api.model_info(name, files_metadata=True)
        sizes = {each.rfilename: each.size for each in found.siblings or () if _is_shared(each.rfilename)}
        if not {"run.json", "model.safetensors", "metrics.csv"} <= sizes.keys():
            raise InputError(f"{name} on the hub holds no run of latens", "name another repository")
        _require_sizes(name, sizes, place)
        (place / "densities").mkdir(parents=True)
        for path in sorted(sizes):
            here = Path(api.hf_hub_download(name, path, revision=found.sha))
            if here.stat().st_size != sizes[path]:
                raise InputError(f"{name} on the hub: {path} does not have the size that the hub states",
                                 "try again later")  # fmt: skip
            shutil.copyfile(here, place / path)
    if not any((place / "densities").iterdir()):
        (place / "densities").rmdir()
    try:
        runs.weights(place, runs.read_record(place))
    except InputError as error:
        said = re.sub(rf"{re.escape(str(place))}/?", "", str(error))
        what = f"{name} on the hub holds no valid run ({said})"
        raise InputError(what, "name another repository, or ask its owner") from None
    return sorted(sizes)


def _require_sizes(name: str, sizes: dict[str, int | None], place: Path) -> None:
    """Raise ``InputError`` if a text file is too large, or all files together are too large for the disk."""
    for path, size in sizes.items():
        if size is None or (size > TEXT and not path.endswith(".safetensors")):
            what = f"{name} on the hub: {path} has {size or 0:,} bytes, too many for a run"
            raise InputError(what, "name another repository")
    needed = sum(size or 0 for size in sizes.values())
    existing = next(folder for folder in place.parents if folder.exists())
    if needed > (there := shutil.disk_usage(existing).free):
        sizes_said = f"{needed / 2**30:,.0f} GiB, but only {there / 2**30:,.0f} are free"
        raise InputError(f"{name} on the hub has {sizes_said}", "make room on the disk")


@contextmanager
def _answering(name: str) -> Iterator[Any]:
    """The API of the hub; if the hub refuses or does not answer, ``InputError``."""
    from huggingface_hub import HfApi, errors
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    where = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield HfApi(endpoint=where, library_name="latens")
    except InputError:
        raise
    except errors.RepositoryNotFoundError:
        raise InputError(f"the hub has no run {name}, or hides it from you", f"check the name, or {login}") from None
    except errors.LocalTokenNotFoundError:
        raise InputError("you are not logged in to the hub", login) from None
    except errors.OfflineModeIsEnabled:
        raise InputError("the hub is out of reach while HF_HUB_OFFLINE is set", "unset it") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise InputError(f"the hub refuses {name} ({status})", f"{login} for an account with permission") from None
        raise InputError(f"the hub at {where} answers {status} for {name}", "try again later") from None
    except (errors.HTTPError, errors.EntryNotFoundError, errors.FileMetadataError, OSError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise InputError(
            f"the hub at {where} does not answer for {name} ({reason:.200})", "check the connection, or try again later"
        ) from None
