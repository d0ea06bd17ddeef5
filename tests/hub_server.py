"""A small Hugging Face hub on 127.0.0.1: what `huggingface_hub` and `datasets` ask of the real one, and its faults.

Both libraries are used as they are, through HF_ENDPOINT. Files are served by commit, with ETag, X-Repo-Commit, ranges
and, for large ones, a redirect to another host ("storage"), as the hub does.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 1 << 12
"""Bytes from which a file lies in "storage" (LFS): a redirect, and an ETag that is its SHA-256."""


@dataclass
class Repository:
    """Files of a model or data set. revisions: branch, tag or commit -> commit. token: asked for where it is not ''."""

    name: str
    files: dict[str, bytes]
    kind: str = "model"
    revisions: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    token: str = ""
    gated: bool = False
    faults: "Faults | None" = None


@dataclass
class Faults:
    """What goes wrong; a repository's own, or those of all repositories.

    Args:
        status: Answer to every request (429 with Retry-After), or to those for storage where `stored`.
        stored: The status is that of the storage, not of the hub.
        once: Give that status to the first request only.
        cut: Bytes after which the first download of a file breaks off.
        stall: Seconds for which a download stands still after half of the file; the first one where `once`.
        slow: Seconds before each answer.
        corrupt: The hash that the hub gives for a large file is another one.
    """

    status: int = 0
    stored: bool = False
    once: bool = False
    cut: int = 0
    stall: float = 0.0
    slow: float = 0.0
    corrupt: bool = False


class Hub:
    """The state of the server: repositories, faults, and what was asked."""

    def __init__(self, repositories: list[Repository], faults: Faults) -> None:
        self.repositories = {(repository.kind, repository.name): repository for repository in repositories}
        self.faults = faults
        self.asked: list[str] = []
        self.downloads: Counter[str] = Counter()
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing on the screen."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        if path == "/":
            return self._json({})
        own = (repository.faults for (_, name), repository in hub.repositories.items() if f"/{name}/" in f"{path}/")
        faults = self.faults = next(own, None) or hub.faults
        time.sleep(faults.slow)
        if faults.status and faults.stored == path.startswith("/storage/"):
            status, extra = faults.status, {"Retry-After": "1"} if faults.status == 429 else {}
            if faults.once:
                faults.status = 0
            return self._fail(status, extra)
        if match := re.fullmatch(r"/api/(model|dataset)s/([\w.-]+/[\w.-]+|[\w.-]+)(?:/(.*))?", path):
            return self._api(match[1], match[2], match[3] or "")
        if match := re.fullmatch(r"/(?:(dataset)s/)?([\w.-]+/[\w.-]+?|[\w.-]+?)/resolve/(.+)", path):
            return self._resolve(match[1] or "model", match[2], match[3])
        if match := re.fullmatch(r"/storage/(model|dataset)/([\w.-]+/[\w.-]+)/(.+)", path):
            return self._send_file(hub.repositories[match[1], match[2]].files[match[3]], match[3], {})
        return self._fail(404, {"X-Error-Code": "EntryNotFound"})

    def _repository(self, kind: str, name: str, files: bool = False) -> Repository | None:
        """The repository, or None when the answer has been given; of a gated one the files alone are refused."""
        repository = self.hub.repositories.get((kind, name))
        allowed = f"Bearer {repository.token}" if repository and repository.token else ""
        if repository is None or (allowed and not repository.gated and self.headers.get("Authorization") != allowed):
            self._fail(404 if self.headers.get("Authorization") else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if files and repository.gated and self.headers.get("Authorization") != allowed:
            status = 403 if self.headers.get("Authorization") else 401
            self._fail(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to {name} is restricted."})
            return None
        return repository

    def _commit(self, repository: Repository, revision: str) -> str | None:
        known = repository.revisions | {commit: commit for commit in repository.revisions.values()}
        if revision not in known:
            self._fail(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return known[revision]

    def _api(self, kind: str, name: str, rest: str) -> None:
        if (repository := self._repository(kind, name)) is None:
            return None
        verb, _, tail = rest.partition("/")
        revision, _, place = tail.partition("/")
        if verb == "revision":
            revision = tail
        if revision.startswith("refs") and verb != "revision":
            words = tail.split("/")
            revision, place = "/".join(words[:3]), "/".join(words[3:])
        if verb not in ("", "revision", "tree", "paths-info"):
            return self._fail(404, {"X-Error-Code": "EntryNotFound"})
        commit = self._commit(repository, revision or "main")
        if commit is None:
            return None
        if verb in ("", "revision"):
            siblings = [{"rfilename": path, "size": len(content)} for path, content in repository.files.items()]
            return self._json({"id": name, "sha": commit, "siblings": siblings, "tags": [], "private": False})
        if verb == "paths-info":
            fields = parse_qs(self.body.decode()) if not self.body.startswith(b"{") else json.loads(self.body)
            wanted = fields.get("paths", [])
            return self._json([e for e in self._entries(repository, "", True) if e["path"] in wanted])
        recursive = "recursive=true" in self.path.lower()
        entries = self._entries(repository, place, recursive)
        if place and not entries:
            return self._fail(404, {"X-Error-Code": "EntryNotFound"})
        return self._json(entries)

    def _entries(self, repository: Repository, place: str, recursive: bool) -> list[dict[str, Any]]:
        start, entries = f"{place}/" if place else "", {}
        for path, content in repository.files.items():
            if not path.startswith(start):
                continue
            inside = path[len(start) :].split("/")
            for depth in range(1, len(inside)):
                folder = start + "/".join(inside[:depth])
                if recursive or depth == 1:
                    entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": _sha1(folder.encode())}
            if recursive or len(inside) == 1:
                entries[path] = {"type": "file", "path": path, "size": len(content), "oid": _sha1(content)}
                if len(content) >= LARGE:
                    entries[path]["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
        return list(entries.values())

    def _resolve(self, kind: str, name: str, rest: str) -> None:
        if (repository := self._repository(kind, name, files=True)) is None:
            return None
        words = rest.split("/")
        count = 3 if words[0] == "refs" else 1
        commit, path = self._commit(repository, "/".join(words[:count])), "/".join(words[count:])
        if commit is None:
            return None
        if path not in repository.files:
            return self._fail(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = repository.files[path]
        if len(content) < LARGE:
            return self._send_file(content, path, {"X-Repo-Commit": commit, "ETag": f'"{_sha1(content)}"'})
        digest = _sha256(content if not self.faults.corrupt else content + b"?")
        headers = {"X-Repo-Commit": commit, "X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        storage = self.hub.url.replace("127.0.0.1", "localhost")  # another host, as the hub's storage is
        headers |= {"Location": f"{storage}/storage/{kind}/{name}/{path}", "Content-Length": "0"}
        self.send_response(302)
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        return None

    def _send_file(self, content: bytes, path: str, headers: dict[str, str]) -> None:
        start, status = 0, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, status = int(match[1]), 206
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.send_response(status)
        for header, value in (
            {"Accept-Ranges": "bytes", "Content-Length": str(len(content) - start)} | headers
        ).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.downloads[self.path] += 1
        if self.faults.stall and not (self.faults.once and self.hub.downloads[self.path] > 1):
            self.wfile.write(content[start : len(content) // 2])
            self.wfile.flush()
            start = max(start, len(content) // 2)
            time.sleep(self.faults.stall)
        if self.faults.cut and self.hub.downloads[self.path] == 1 and len(content) > self.faults.cut:
            self.wfile.write(content[start : start + self.faults.cut])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(content[start:])

    def _json(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _fail(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serve(repositories: list[Repository], faults: Faults | None = None) -> Iterator[Hub]:
    """A hub that answers until the context ends; `hub.url` is its HF_ENDPOINT."""
    hub = Hub(repositories, faults or Faults())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
