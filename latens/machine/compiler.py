"""Compile the training step as one captured graph."""

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
    """Whether there is a compiler and the model's ``compile_mode`` is not "off". ``note`` receives the explanation."""
    if backend == "inductor" and device.type == "cpu" and not has_compiler():
        note("no C++ compiler was found, so the step runs without being compiled")
        return False
    possible = getattr(model, "compile_mode", "full") != "off"
    if possible and backend == "inductor":
        note("this run is long, so its step is compiled first, which takes about ten seconds")
    return possible


def compiled(step: Callable[..., Any], model: nn.Module, backend: str) -> Callable[..., Any]:
    """``step`` under ``torch.compile``, as one graph unless the model's ``compile_mode`` says "partial".

    The compiled step draws the same noise as the step that is not compiled. ``step`` may compute gradients itself.
    """
    # the guards check sizes and strides before every step, so the graph need not check them again
    options: dict[str, Any] | None = None
    if backend == "inductor":
        options = {"fallback_random": True, "size_asserts": False}
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
    """A copy of the method with a new code object: torch counts compilations per code object, and stops after a few."""
    function = method.__func__ if isinstance(method, MethodType) else method
    code, name = function.__code__.replace(), function.__name__
    copy = FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    return MethodType(copy, method.__self__) if isinstance(method, MethodType) else copy


@contextmanager
def cache(wait: float = 300.0) -> Iterator[None]:
    """Within the block, the compiler keeps its files in latens' folder of the user's cache, one process at a time.

    A run that is killed while it compiles may leave half a library in the folder. Loading that would kill the next
    process too. Therefore a marker file is in the folder during the block, and a process that finds an old marker
    empties the folder first. A process that would wait longer than ``wait`` seconds, or cannot write in the folder,
    uses a temporary folder instead. A folder that the user named (TORCHINDUCTOR_CACHE_DIR) is left alone.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    before = os.environ.get(_FOLDER)  # torch itself writes its default there
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
    """Whether this version of torch can capture a step that computes gradients itself."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


def has_compiler() -> bool:
    """Whether the C++ compiler that torch would call is installed."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None
