"""A local process that decodes for a page that cannot run the decoder itself, on 127.0.0.1, behind a random token."""

from __future__ import annotations

import errno
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latens import evaluation
from latens.errors import InputError
from latens.runs.export import graphs
from latens.runs.record import Run
from latens.schema import Table

if TYPE_CHECKING:
    from latens.report.explore import Explorer

HOST = "127.0.0.1"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
MOST = 64 << 20  # the largest size of a request, in bytes


class Server(ThreadingHTTPServer):
    """Serves the page of a run, and its decoder: ``GET /TOKEN/`` and ``POST /TOKEN/decode``, and nothing else.

    Args:
        run: the run, whose model decodes.
        page: the page of the run.
        port: the port; 0 for any free one.

    Raises:
        InputError: the port is in use, or not allowed.
    """

    daemon_threads = True

    def __init__(self, run: Run, page: Explorer, port: int = 0):
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise InputError(f"--port {port} {why}", "name another port, or 0 for any free port") from None
        self.run, self.token, self.lock = run, secrets.token_urlsafe(24), Lock()
        self.content = page.html(f"/{self.token}/").encode()
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def decoded(self, asked: Any) -> bytes:
        """The rows for ``{"codes": [N][Z], "conditions": [C][N or 1]}``, as float32; for a table, the numbers of its
        columns as float64. ``ValueError`` if the request has any other form."""
        if not isinstance(asked, dict):
            raise ValueError("give codes and conditions")
        z = torch.tensor(asked.get("codes"), dtype=graphs.code(self.run).dtype)
        known = graphs.conditions(self.run)
        given = asked.get("conditions") or []
        if z.ndim != 2 or len(given) != len(known):
            raise ValueError(f"give codes [N][Z], and a list for each of {len(known)} conditions")
        c = {name: torch.tensor(values, dtype=value.dtype).expand(len(z))
             for (name, value), values in zip(known.items(), given)}  # fmt: skip
        with self.lock:
            rows = evaluation.decode(self.run.model, z, graphs.in_storage(self.run.schema, c))
        schema = self.run.schema
        if isinstance(schema, Table):
            u = schema.outward(rows.numpy(), schema.known_of(c), mean=True)[0]
            return np.stack(list(u.values()), 1).astype(np.dtype("<f8")).tobytes()
        return rows.flatten(1).numpy().astype(np.dtype("<f4")).tobytes()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, kind: str = "text/plain; charset=utf-8", content: bytes = b"") -> None:
        self.send_response(status)
        about = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in (about | HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _is(self, path: str) -> bool:
        """Whether the request is for this path, under a name of this computer. A page from elsewhere does not know the
        token."""
        own = f"/{self.server.token}/{path}"
        is_here = self.headers.get("Host") in self.server.names
        return is_here and secrets.compare_digest(self.path.encode(), own.encode())

    def do_GET(self) -> None:
        """The page."""
        if self._is(""):
            self._answer(200, "text/html; charset=utf-8", self.server.content)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        """Decoded rows."""
        length = self.headers.get("Content-Length", "")
        if not self._is("decode") or not length.isdigit() or int(length) > MOST:
            return self._answer(404)
        try:
            content = self.server.decoded(json.loads(self.rfile.read(int(length))))
        except Exception as error:  # a bad code must not end the process
            return self._answer(400, content=" ".join(str(error).split())[:300].encode())
        self._answer(200, "application/octet-stream", content)
