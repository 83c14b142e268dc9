"""Runs on a hub, for which a stub on 127.0.0.1 stands in: nothing leaves the machine. A pulled run is the run that was
pushed, only files of a run are taken, and every misbehaviour of a hub is reported in one sentence."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from commanding import done, refused

import latens
from latens import InputError
from latens.runs import record, sharing

X = np.random.default_rng(0).normal(size=(40, 3))
SHA = "0" * 39 + "1"


class Hub(ThreadingHTTPServer):
    """A hub with repositories ``{name: {path: bytes}}``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.sizes: dict[str, int] = {}  # sent instead of the true ones
        self.status = 0  # status of every answer, if not 0
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *words: Any) -> None:
        pass

    def _answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if self.server.status:
            return self._answer({"error": "no"}, self.server.status)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.server.repositories.get(name)
        if files is None:
            return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if parts[0] == "api":
            return self._repository(files, name, parts[4:], body)
        wanted = "/".join(parts[4:])
        if wanted not in files:
            return self._answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        self._answer(files[wanted], ETag=f'"{hash(files[wanted])}"', X_Repo_Commit=SHA)

    do_GET = do_HEAD = do_POST = _handle

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.server.repositories:
            return self._answer({"error": "exists", "url": f"{self.server.address}/{name}"}, 409)
        self.server.repositories[name] = {".gitattributes": b""}
        self.server.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._answer({"url": f"{self.server.address}/{name}"})

    def _repository(self, files: dict[str, bytes], name: str, what: list[str], body: bytes) -> None:
        sizes = {path: self.server.sizes.get(path, len(data)) for path, data in files.items()}
        if what[:1] == ["tree"]:
            return self._answer([
                {"type": "file", "path": path, "size": size, "oid": "0"} for path, size in sizes.items()
            ])
        if what[:1] == ["preupload"]:
            asked = json.loads(body)["files"]
            return self._answer({"files": [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked
            ]})
        if what[:1] == ["commit"]:
            for line in body.decode().splitlines():
                step = json.loads(line)
                if step["key"] == "file":
                    files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
                if step["key"] == "deletedFile":
                    del files[step["value"]["path"]]
            return self._answer({"commitUrl": f"{self.server.address}/{name}/commit/{SHA}", "commitOid": SHA})
        siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
        self._answer({"id": name, "sha": SHA, "siblings": siblings, "tags": []})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_stub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield server
    server.shutdown()
    server.server_close()


def fitted(**more: Any) -> latens.VAE:
    return latens.VAE(latent_dim=2, epochs=2, random_state=0, **more).fit(X)


def test_a_pulled_run_equals_the_pushed_run(hub: Hub):
    vae = fitted()
    vae.fit_density(X, "kde")
    vae.save("run")
    Path("run/explore.html").write_text("rows")
    out = done("push", "run", "me/mine").out
    assert f"wrote {hub.address}/me/mine: README.md, densities/kde-" in out and hub.private["me/mine"]
    there = set(hub.repositories["me/mine"]) - {".gitattributes"}
    assert {each.partition("-")[0] for each in there} == {
        "README.md", "run.json", "model.safetensors", "metrics.csv", "densities/kde", "densities/kde.json"
    }  # fmt: skip
    done("pull", "me/mine", "--out", "other")
    assert not list(Path().glob(".pull-*"))
    for again in (latens.load("other"), latens.load("hf://me/mine")):
        assert np.array_equal(again.transform(X), vae.transform(X))
        ours, theirs = (each.sample(3, density="kde", random_state=0) for each in (vae, again))
        assert np.array_equal(ours, theirs)
    fitted().save("second")  # has no density
    done("push", "second", "me/mine")
    assert not any("densities" in path for path in hub.repositories["me/mine"])


def test_local_paths_and_rows_are_not_uploaded(hub: Hub, tmp_path: Path):
    place = tmp_path / "secret"
    place.mkdir()
    np.save(place / "x.npy", X)
    done("fit", place / "x.npy", "--out", "run", "--epochs", "1", "--latent-dim", "1")
    done("push", "run", "me/mine", "--public")
    files = hub.repositories["me/mine"]
    assert not hub.private["me/mine"] and not any(b"secret" in data for data in files.values())
    assert not {"report.html", "checkpoint/state.json"} & files.keys() and Path("run/report.html").exists()
    assert json.loads(files["run.json"])["data"]["origin"] == "x.npy"
    done("pull", "me/mine", "--out", "again")
    assert str(record.load("again").history) == str(record.load("run").history)


def test_the_card_agrees_with_the_run(hub: Hub):
    Path("people.csv").write_text("age,`|<b>x\n" + "".join(f"{20 + i % 30},{'ab'[i % 2]}\n" for i in range(300)))
    done("fit", "people.csv", "--out", "run", "--recipe", "beta_vae", "--beta", "2", "--epochs", "2")
    done("push", "run", "me/mine")
    card = hub.repositories["me/mine"]["README.md"].decode()
    run = record.load("run")
    last = run.history[-1]
    assert card.startswith("---\nlibrary_name: latens\ntags:\n- latens\n- variational-autoencoder\n- beta_vae\n---\n")
    assert f"| bound on ln p(x), held-out rows | {last['validation_bound']:.3f} |" in card
    assert f"{run.parameters:,} parameters, fitted to {run.rows:,} rows" in card and 'load("hf://me/mine")' in card
    outside = "".join(card.split("```")[::2])
    assert "<b>" not in outside and "`|<b>x" in card
    for said in (*run.choices.values(), *run.warnings, f"weights: {run.served}"):
        assert said in card


def test_only_files_of_a_run_are_taken(hub: Hub, tmp_path: Path):
    fitted().save("run")
    done("push", "run", "me/mine")
    hub.repositories["me/mine"] |= {
        "evil.py": b"1", "../out.txt": b"1", "densities/../../x.json": b"1", "densities/a/b.json": b"1",
        "/etc/x.json": b"1", "report.html": b"<script>", "checkpoint/state.json": b"{}",
    }  # fmt: skip
    before = {path.name for path in tmp_path.iterdir()}
    done("pull", "me/mine", "--out", "other")
    assert sorted(path.name for path in Path("other").iterdir()) == ["metrics.csv", "model.safetensors", "run.json"]
    assert {path.name for path in tmp_path.iterdir()} - before <= {"cache"}
    assert not any("evil" in each or "report" in each for each in hub.asked)


def spoil(hub: Hub, how: str) -> None:
    files = hub.repositories["me/mine"]
    if how == "lacks weights":
        del files["model.safetensors"]
    if how == "cut weights":
        files["model.safetensors"] = files["model.safetensors"][:-8]
    if how == "edited":
        files["run.json"] = files["run.json"].replace(b'"rows": 40', b'"rows": 41')
    if how == "no run":
        files["run.json"] = b"{}"
    if how == "huge text":
        hub.sizes["run.json"] = 1 << 40
    if how == "huge weights":
        hub.sizes["model.safetensors"] = 1 << 60
    if how == "another size":
        hub.sizes["metrics.csv"] = 7
    if how == "refuses":
        hub.status = 403
    if how == "out of order":
        hub.status = 418


FAULTS = {
    "lacks weights": "me/mine on the hub holds no run of latens: name another repository",
    "cut weights": "me/mine on the hub holds no valid run (model.safetensors is damaged",
    "edited": "me/mine on the hub holds no valid run (run.json is damaged",
    "no run": "me/mine on the hub holds no valid run (run.json is damaged",
    "huge text": "me/mine on the hub: run.json has 1,099,511,627,776 bytes, too many for a run: name",
    "huge weights": "me/mine on the hub has 1,073,741,824 GiB, but only ",
    "another size": "me/mine on the hub: metrics.csv does not have the size that the hub states: try again later",
    "refuses": "the hub refuses me/mine (403): log in with `hf auth login`, or set HF_TOKEN for an account with "
    "permission",
    "out of order": "the hub at http://127.0.0.1:",
}


@pytest.mark.parametrize("how", FAULTS)
def test_errors_of_a_hub_are_reported_in_one_sentence(hub: Hub, how: str):
    fitted().save("run")
    done("push", "run", "me/mine")
    spoil(hub, how)
    assert refused("pull", "me/mine", "--out", "other").startswith(FAULTS[how])
    with pytest.raises(InputError, match="hub"):
        latens.load("hf://me/mine")


def test_names_folders_and_other_repositories_are_checked(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    fitted().save("run")
    for name in ("mine", "a/b/c", "../x", "a/..", "me/mi ne", "", "https://hub/me/mine"):
        said = f"{name!r} is not the name of a repository: give USER/NAME"
        assert refused("push", "run", name) == refused("pull", name, "--out", "x") == said
    with pytest.raises(InputError, match="is not the name of a repository"):
        latens.load("hf://mine")
    assert refused("pull", "me/absent", "--out", "x").startswith("the hub has no run me/absent, or hides it from you: ")
    hub.repositories["me/other"] = {"config.json": b"{}", "model.safetensors": b"0"}
    said = "me/other on the hub holds no run of latens: name another repository"
    assert refused("pull", "me/other", "--out", "x") == said
    assert refused("push", "run", "me/other").startswith("me/other on the hub holds something other than a run (config")
    assert hub.repositories["me/other"].keys() == {"config.json", "model.safetensors"}
    done("push", "run", "me/mine")
    assert refused("pull", "me/mine", "--out", "run").startswith("run already holds a run")
    Path("taken").mkdir()
    assert refused("pull", "me/mine", "--out", "taken") == "taken exists already: name another folder"
    assert refused("pull", "me/mine", "--out", "no/x").startswith("cannot write no/x, as the folder ")
    assert refused("push", "absent", "me/mine").startswith("absent does not exist")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for words in (("push", "run", "me/mine"), ("pull", "me/mine", "--out", "x")):
        said = refused(*words)
        assert said.startswith("the hub at http://127.0.0.1:9 does not answer for me/mine (")
        assert said.endswith("): check the connection, or try again later")
    assert sharing.is_on_hub("hf://a/b") and not sharing.is_on_hub("a/b")
