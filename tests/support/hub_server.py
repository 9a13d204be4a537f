"""A small hub on loopback: the part of the Hugging Face hub's HTTP API that pushing and reading datasets uses.

It keeps branches and commits in memory and checks tokens, parents of commits, sizes and hashes as the hub does. A
commit appears whole or not at all. Tests choose faults: a status for a request, a reply that is lost after the work is
done, or the end of the server at a request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants

Files = dict[str, bytes]

WRITER, READER, STRANGER = "hf_writer_secret", "hf_reader_secret", "hf_stranger_secret"
"""Tokens: may write, may only read, and one that the hub does not know."""
_LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "other"}
_LARGE = (".parquet", ".gz", ".zst")
_REPOSITORY = r"(?P<id>[\w.-]+/[\w.-]+)"


@dataclass
class Repository:
    """A dataset: the files of its commits by their ids, the newest commits of its branches, and all commit messages."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add(self, files: Files, branch: str, message: str) -> str:
        """Adds a commit of exactly these files to the branch; returns its id."""
        content = repr((self.branches.get(branch), len(self.commits), sorted(files.items())))
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        self.messages.append(message)
        return commit

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or a commit's id names."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Fault:
    """What happens to the next `times` requests that match `request`, a regular expression for "METHOD path".

    With `status`, the answer is that error with `message` and `code`, and nothing is done. With `lost`, the work is
    done, but the reply does not arrive. With `ends`, the whole server ends before the work.
    """

    request: str
    status: int = 0
    times: int = 1
    lost: bool = False
    ends: bool = False
    message: str = "not now"
    code: str | None = None


class Refusal(Exception):
    """An error as the answer; `code` is its `X-Error-Code`, `more` are further fields of its JSON."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more


class HubServer:
    """The state of the hub; `url` is the value of `HF_ENDPOINT`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.lock = threading.RLock()
        self.url = ""
        self.end: Callable[[], None] = lambda: None

    def put(self, repository: str, files: Files, branch: str = "main", *, private: bool = False) -> str:
        """Replaces the files of a branch, as somebody else would; returns the commit."""
        with self.lock:
            found = self.repositories.setdefault(repository, Repository(private))
            return found.add(dict(files), branch, "put")

    def files(self, repository: str, branch: str = "main") -> Files:
        """The files of a branch."""
        found = self.repositories[repository]
        return found.commits[found.branches[branch]]


def _route(method: str, path: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _ROUTES.append((method, re.compile(path), function.__name__))
        return function

    return register


_ROUTES: list[tuple[str, re.Pattern[str], str]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        request = f"{self.command} {unquote(url.path)}"
        with self.hub.lock:
            self.hub.asked.append(request)
            fault = next((one for one in self.hub.faults if one.times and re.search(one.request, request)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None and fault.ends:
            self.close_connection = True
            self.hub.end()
            return
        try:
            if fault is not None and fault.status:
                raise Refusal(fault.status, fault.message, fault.code)
            for method, pattern, name in _ROUTES:
                # The encoded path: a revision may hold an encoded slash.
                match = pattern.fullmatch(url.path)
                if match and (method == self.command or (method, self.command) == ("GET", "HEAD")):
                    with self.hub.lock:
                        answer = getattr(self, name)(
                            **{key: unquote(value) for key, value in match.groupdict().items() if value}
                        )
                    break
            else:
                raise Refusal(404, f"this hub does not know {request}")
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            self._reply(
                refusal.status, json.dumps({"error": refusal.message or None, **refusal.more}).encode(), headers
            )
            return
        if fault is not None and fault.lost:
            self.close_connection = True
            return
        if isinstance(answer, tuple):
            self._reply(200, *answer)
        else:
            self._reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Permissions, and what a name stands for.

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _require_writer(self) -> None:
        token = self._token()
        if token not in (WRITER, READER):
            # No server should repeat a token in an error; this one does, so that tests see it if we show such errors.
            raise Refusal(401, f"Invalid username or password: {token}")
        if token == READER:
            raise Refusal(403, f"You don't have the required permissions: {token}")

    def _repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        known = self._token() in (WRITER, READER)
        if found is None or (found.private and not known):
            raise Refusal(404 if known else 401, "Repository not found", "RepoNotFound")
        return found

    def _commit(self, name: str, revision: str) -> tuple[str, Files]:
        found = self._repository(name)
        commit = found.commit_of(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, found.commits[commit]

    # Writing.

    @_route("POST", "/api/repos/create")
    def create(self) -> Any:
        self._require_writer()
        asked = json.loads(self.body)
        assert asked["type"] == "dataset"
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            raise Refusal(409, "You already created this dataset repo", url=f"{self.hub.url}/datasets/{name}")
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.put(name, {".gitattributes": b"*.parquet filter=lfs\n"}, private=private)
        return {"url": f"{self.hub.url}/datasets/{name}"}

    @_route("POST", f"/api/datasets/{_REPOSITORY}/branch/(?P<branch>[^/]+)")
    def branch(self, id: str, branch: str) -> Any:
        self._require_writer()
        found = self._repository(id)
        if branch in found.branches:
            raise Refusal(409, "Reference already exists")
        found.branches[branch] = found.branches["main"]
        return {}

    @_route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> Any:
        front = json.loads(self.body)["content"].split("---\n")[1]
        license_name = yaml.safe_load(front).get("license")
        if license_name is not None and license_name not in _LICENSES:
            raise Refusal(400, "", errors=[{"message": '"license" must be one of the known licenses'}])
        return {"errors": [], "warnings": []}

    @_route("POST", f"/api/datasets/{_REPOSITORY}/preupload/(?P<revision>[^/]+)")
    def preupload(self, id: str, revision: str) -> Any:
        self._require_writer()
        _, files = self._commit(id, revision)
        ignored = files.get(".gitignore", b"").decode().split()
        found = []
        for one in json.loads(self.body)["files"]:
            path = one["path"]
            is_large = path.endswith(_LARGE)
            present = files.get(path)
            oid = None if present is None else _sha256(present) if is_large else _blob(present)
            mode = "lfs" if is_large else "regular"
            found.append({"path": path, "uploadMode": mode, "shouldIgnore": path in ignored, "oid": oid})
        return {"files": found}

    @_route("POST", rf"/datasets/{_REPOSITORY}\.git/info/lfs/objects/batch")
    def large_files_to_upload(self, id: str) -> Any:
        self._require_writer()
        self._repository(id)
        objects = []
        for one in json.loads(self.body)["objects"]:
            link = {"href": f"{self.hub.url}/lfs/{one['oid']}"}
            is_new = one["oid"] not in self.hub.large_files
            objects.append({**one, **({"actions": {"upload": link}} if is_new else {})})
        return {"transfer": "basic", "objects": objects}

    @_route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid: str) -> Any:
        if _sha256(self.body) != oid:
            raise Refusal(422, "the content has another hash")
        self.hub.large_files[oid] = self.body
        return {}

    @_route("POST", f"/api/datasets/{_REPOSITORY}/commit/(?P<revision>[^/]+)")
    def commit(self, id: str, revision: str) -> Any:
        self._require_writer()
        parent, present = self._commit(id, revision)
        lines = [json.loads(line) for line in self.body.splitlines()]
        assert self.headers["Content-Type"] == "application/x-ndjson"
        head = lines[0]["value"]
        if head.get("parentCommit", parent) != parent:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(present)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"], validate=True)
            else:
                assert line["key"] == "lfsFile"
                if value["oid"] not in self.hub.large_files:
                    raise Refusal(400, f"the content of {value['path']} was not uploaded")
                files[value["path"]] = self.hub.large_files[value["oid"]]
                assert len(files[value["path"]]) == value["size"]
        commit = self._repository(id).add(files, revision, head["summary"])
        return {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/datasets/{id}/commit/{commit}"}

    # Reading.

    @_route("GET", f"/api/datasets/{_REPOSITORY}(?:/revision/(?P<revision>[^/]+))?")
    def info(self, id: str, revision: str = "main") -> Any:
        commit, files = self._commit(id, revision)
        siblings = [{"rfilename": name} for name in sorted(files)]
        return {"id": id, "sha": commit, "private": self._repository(id).private, "siblings": siblings, "tags": []}

    @_route("GET", f"/api/datasets/{_REPOSITORY}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?")
    def tree(self, id: str, revision: str, folder: str = "") -> Any:
        _, files = self._commit(id, revision)
        under = folder.strip("/")
        inside = [name for name in sorted(files) if not under or name.startswith(f"{under}/")]
        if under and not inside:
            raise Refusal(404, f"no folder {under}", "EntryNotFound")
        folders = {"/".join(name.split("/")[:depth]) for name in inside for depth in range(1, name.count("/") + 1)}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": one, "oid": "0" * 40, "size": 0} for one in sorted(folders)
        ]
        entries += [_entry(name, files[name]) for name in inside]
        if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            entries = [one for one in entries if "/" not in one["path"][len(under) :].strip("/")]
        return [one for one in entries if one["path"] != under]

    @_route("POST", f"/api/datasets/{_REPOSITORY}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, id: str, revision: str) -> Any:
        _, files = self._commit(id, revision)
        is_json = "json" in (self.headers.get("Content-Type") or "")
        paths = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode()).get("paths", [])
        return [_entry(path, files[path]) for path in paths if path in files]

    @_route("GET", f"/datasets/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, id: str, revision: str, path: str) -> Any:
        commit, files = self._commit(id, revision)
        if path not in files:
            raise Refusal(404, f"no file {path}", "EntryNotFound")
        content = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_blob(content)}"', "Content-Type": "application/octet-stream"}
        if path.endswith(_LARGE):
            headers |= {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        return content, headers


def _entry(path: str, content: bytes) -> dict[str, Any]:
    lfs = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
    large = {"lfs": lfs} if path.endswith(_LARGE) else {}
    return {"type": "file", "path": path, "size": len(content), "oid": _blob(content), **large}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A hub for the length of a `with`."""
    hub = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    hub.end = end
    try:
        yield hub
    finally:
        end()
        thread.join()


def variables(hub: HubServer, cache: str, token: str | None = None) -> dict[str, str]:
    """Variables of the environment with which a process uses this hub, with its own `cache` folder."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": cache,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **({} if token is None else {"HF_TOKEN": token}),
    }


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: HubServer, cache: str, token: str | None = None) -> None:
    """Makes the hub library in this process use this hub. It sets the library's constants, because the library read the
    environment when it was imported."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": cache,
        "HF_TOKEN_PATH": f"{cache}/no-token",
        "HF_STORED_TOKENS_PATH": f"{cache}/no-tokens",
    }.items():
        assert hasattr(constants, name)
        monkeypatch.setattr(constants, name, value)
    # It has connections to the hub of an earlier test.
    huggingface_hub.close_session()
