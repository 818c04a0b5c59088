"""A server on the loopback that speaks the protocol of the Hugging Face hub, as far as models are concerned."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "a" * 34
Files = dict[str, bytes]


@dataclass
class Repository:
    """The commits of a repository, hash -> files, oldest first, and its branches and tags."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files) -> str:
        """Add a commit to main and return its hash."""
        digest = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = files
        self.refs["main"] = digest
        return digest

    def find(self, revision: str) -> str | None:
        """Return the hash of a commit, branch or tag."""
        return revision if revision in self.commits else self.refs.get(revision)


class HubServer:
    """Runs inside a `with` block. Files whose names end with .safetensors go through LFS, others are regular.

    Attributes:
        repositories: ORG/NAME -> repository.
        objects: sha256 -> content of the LFS files that were uploaded.
        requests: method and path of each request.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: Files = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        pass

    @property
    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self) -> None:
        self._read()
        path = urlsplit(self.path).path
        if path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/").split("/"))
        elif "/resolve/" in path:
            self._send_file(path.removeprefix("/"))
        else:
            self._reply({}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        digest, content = self.path.rpartition("/")[2], self._read()
        assert hashlib.sha256(content).hexdigest() == digest
        self.hub.objects[digest] = content
        self._reply({})

    def do_POST(self) -> None:
        body, path = self._read(), urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._reply({"errors": [], "warnings": []})
        elif not self.may_write:
            self._reply({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self._reply({"objects": list(map(self._offer_upload, json.loads(body)["objects"]))})
        elif "/preupload/" in path:
            files = [
                {**file, "shouldIgnore": False, "uploadMode": choose_mode(file)} for file in json.loads(body)["files"]
            ]
            self._reply({"files": files})
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), body)
        else:
            self._reply({}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name.startswith("closed/"):
            self._reply({"error": "You don't have the rights to create a model under the namespace"}, 403)
            return
        exists = name in self.hub.repositories
        self.hub.repositories.setdefault(name, Repository(private=is_private(asked)))
        self._reply({"url": f"{self.hub.url}/{name}"}, 409 if exists else 200)

    def _offer_upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.hub.objects:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}

    def _commit(self, name: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.commits.get(repository.refs.get("main", ""), {}))
        for line in map(json.loads, body.splitlines()):
            match line:
                case {"key": "file", "value": {"path": path, "content": content}}:
                    files[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    files[path] = self.hub.objects[oid]
                case {"key": "deletedFile", "value": {"path": path}}:
                    del files[path]
        oid = repository.commit(files)
        self._reply({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _find(self, name: str, revision: str) -> tuple[str, Files] | None:
        """Return commit and files; reply with the hub's error and return None if there are none."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.may_write):
            self._reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repository.find(revision)
        if commit is None:
            self._reply({"error": "Revision not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, repository.commits[commit]

    def _describe(self, parts: list[str]) -> None:
        org, name, what, revision = (*parts, "revision", "main")[:4] if len(parts) == 2 else parts[:4]
        if (found := self._find(f"{org}/{name}", unquote(revision))) is None:
            return
        commit, files = found
        if what == "tree":
            self._reply([describe_file(path, content) for path, content in files.items()])
        else:
            siblings = [{"rfilename": path} for path in files]
            self._reply({"id": f"{org}/{name}", "modelId": f"{org}/{name}", "sha": commit, "siblings": siblings})

    def _send_file(self, path: str) -> None:
        org, name, _, revision, file = path.split("/", 4)
        if (found := self._find(f"{org}/{name}", unquote(revision))) is None:
            return
        commit, files = found
        if (content := files.get(file)) is None:
            self._reply({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        self._reply(content, headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit})

    def _read(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def is_private(asked: dict[str, Any]) -> bool:
    """Return whether a new repository is private; earlier clients ask with a boolean."""
    return asked.get("visibility") == "private" or bool(asked.get("private"))


def choose_mode(file: dict[str, Any]) -> str:
    """Return how a file is uploaded."""
    return "lfs" if file["path"].endswith(".safetensors") else "regular"


def describe_file(path: str, content: bytes) -> dict[str, Any]:
    """Return a file as a listing of the hub shows it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if choose_mode(entry) == "lfs":
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry
