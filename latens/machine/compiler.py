"""The step as one captured graph."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType, MethodType
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def can_compile(model: nn.Module, backend: str, device: torch.device, note: Callable[[str], None]) -> bool:
    """Whether there is something to compile with, and the model's ``compile_mode`` is not "off"; a note if not."""
    if backend == "inductor" and device.type == "cpu" and not has_compiler():
        note("no C++ compiler was found, so the step is not compiled and runs eagerly")
        return False
    possible = getattr(model, "compile_mode", "full") != "off"
    if possible and backend == "inductor":
        note("a long run: its step is compiled first, which takes some ten seconds")
    return possible


def compiled(step: Callable[..., Any], model: nn.Module, backend: str) -> Callable[..., Any]:
    """``step`` under ``torch.compile``, as one graph unless the model's ``compile_mode`` says "partial".

    Its noise is that of the eager step. ``step`` may take gradients.
    """
    options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
    full = getattr(model, "compile_mode", "full") == "full"
    graph = torch.compile(_own(step), backend=backend, fullgraph=full, options=options)
    proven = False

    def call(*given: Any) -> Any:
        nonlocal proven
        with torch._dynamo.config.patch(trace_autograd_ops=True) if takes_gradients() else nullcontext():
            if proven or backend != "inductor":
                return graph(*given)
            with cache():
                found = graph(*given)
            proven = True
            return found

    return call


def _own(method: Callable[..., Any]) -> Callable[..., Any]:
    """The bound method with code of its own: torch counts how often one code is compiled, and gives up after a few."""
    function = method.__func__ if isinstance(method, MethodType) else method
    code, name = function.__code__.replace(), function.__name__
    copy = FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    return MethodType(copy, method.__self__) if isinstance(method, MethodType) else copy


@contextmanager
def cache(wait: float = 300.0) -> Iterator[None]:
    """Inside, compiling keeps its files in latens' own folder of the user's cache, one process at a time.

    A run that is killed while it compiles may leave half a library there, and loading one kills the next process too:
    a mark stands in the folder meanwhile, and whoever finds it empties the folder first. Whoever waits longer than
    ``wait`` seconds, or cannot write there, uses a folder of its own. A folder that the user named is left alone.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    before = os.environ.get(_FOLDER)  # torch writes its own default there
    if before not in (None, default_cache_dir()):
        yield
        return
    with ExitStack() as stack:
        folder = _cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / "lock", timeout=wait))
        except (OSError, Timeout):
            folder = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        mark, files = folder / "unfinished", folder / "files"
        if mark.exists():
            shutil.rmtree(files, ignore_errors=True)
        mark.touch()
        os.environ[_FOLDER] = str(files)
        try:
            yield
        finally:
            os.environ[_FOLDER] = before or default_cache_dir()
            mark.unlink(missing_ok=True)


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "latens" / f"compiled-{torch.__version__}"


def takes_gradients() -> bool:
    """Whether this torch can capture a step that takes gradients itself."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


def has_compiler() -> bool:
    """Whether the C++ compiler that torch would call is there."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None
