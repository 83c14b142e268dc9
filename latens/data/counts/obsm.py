"""Write a copy of an .h5ad with the codes of its cells in obsm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from latens.data.array_files import sentences
from latens.errors import InputError
from latens.machine.atomic import atomic_write

KEY = "X_latens"  # the name of the codes, in the style of scanpy and others (X_pca, X_umap)


class ObsmWriter:
    """A copy of an .h5ad that appears, with codes in ``obsm[key]``, when the block ends without an exception.

    Everything else in the file stays as it is; codes of the same name are replaced. ``shape`` is the shape of the
    codes.

    Args:
        path: the copy; it may be the source itself.
        source: the .h5ad.
        key: the name of the codes in obsm.

    Raises:
        InputError: the source is not an .h5ad, its obsm has an unusual form, or the copy cannot be written.
    """

    beside: Path | None = None  # as in :class:`latens.data.streams.writer.Writer`

    def __init__(self, path: str | os.PathLike[str], source: str | os.PathLike[str], key: str = KEY):
        if Path(source).suffix.lower() != ".h5ad":
            raise InputError(f"cannot write {path}: only an .h5ad can be copied with codes, but {source} is not one",
                             "write a .npy")  # fmt: skip
        if not key or "/" in key:
            raise InputError(f"the key of codes must be a name like {KEY}, got {key!r}")
        self.path, self.source, self.key = Path(path), Path(source), key
        self._parts: list[np.ndarray] = []

    @property
    def shape(self) -> list[int]:
        """The shape of the codes so far."""
        return [sum(map(len, self._parts)), *self._parts[0].shape[1:]] if self._parts else [0]

    def write(self, values: np.ndarray, rows: Any = None) -> None:
        """Append codes ``[B, Z]``; the names of ``rows`` are in the file already."""
        self._parts.append(values)

    def __enter__(self) -> ObsmWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        import h5py

        with atomic_write(self.path) as file, sentences(self.source):
            with open(self.source, "rb") as whole:
                shutil.copyfileobj(whole, file, 1 << 24)
            with h5py.File(file, "r+") as copy:
                self._put(copy, np.concatenate(self._parts))

    def _put(self, file: Any, codes: np.ndarray) -> None:
        import h5py

        if isinstance(file.get("obsm", getlink=True), h5py.SoftLink | h5py.ExternalLink) or not isinstance(
            file.get("obsm", file), h5py.Group
        ):
            raise InputError(f"{self.source}: obsm is a link, or has an old form", "write the file again with anndata")
        if "obsm" not in file:
            file.create_group("obsm").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        if self.key in file["obsm"]:
            del file["obsm"][self.key]
        stored = file["obsm"].create_dataset(self.key, data=np.ascontiguousarray(codes, dtype=np.float32))
        stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
