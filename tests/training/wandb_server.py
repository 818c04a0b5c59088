"""A W&B server on the loopback that takes runs as the real one does, as far as `wandb sync` asks."""

import gzip
import http.server
import json
import re
import threading
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Keeps the history of each run: what came, at which offset, and which artifacts it uses and makes.

    Attributes:
        deleted: ids of runs that were deleted: they are refused with the status 409, as by the real server.
        sweep: the text of a sweep file, for agents.
        orders: id and parameters of each run that an agent is to start, in order.
        placed: what each run asked for: variables of the request that created it.
        aliases: aliases of each artifact that a run has made.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: dict[str, list[str]] = {}
        self.made: set[str] = set()
        self.used: set[str] = set()
        self.states: list[int] = []
        self.deleted: set[str] = set()
        self.sweep = ""
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.placed: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, list[str]] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Clients come and go."""

    def stream(self, run_id: str, chunk: dict[str, Any]) -> None:
        """Take a piece of a run's files."""
        lines = self.history.setdefault(run_id, [])
        file = chunk.get("files", {}).get("wandb-history.jsonl")
        if file:
            assert file["offset"] == len(lines), "a piece must go on where the one before ended"
            lines += file["content"]
        if chunk.get("complete"):
            self.states.append(chunk["exitcode"])

    def answer(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else ""
        project = {"id": "p", "name": values.get("project"), "entity": {"id": "e", "name": "me"}}
        if name.lower().endswith("viewer"):
            return {"viewer": {"id": "u", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}}
        if name == "RunResumeStatus":
            return {"model": {**project, "bucket": self.describe(values["name"])}}
        if name == "UpsertBucket":
            new = values["name"] not in self.history
            self.placed.setdefault(values["name"], values)
            self.history.setdefault(values["name"], [])
            bucket = {"id": "b", "name": values["name"], "displayName": "demo", "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": new}}
        if name == "ArtifactType":
            return {"project": None}
        if name == "CreateArtifact":
            artifact = values["input"]["artifactCollectionName"]
            self.made.add(artifact)
            self.aliases[artifact] = [alias["alias"] for alias in values["input"].get("aliases") or []]
            sequence = {"id": "s", "latestArtifact": None}
            return {
                "createArtifact": {"artifact": {"id": artifact, "state": "COMMITTED", "artifactSequence": sequence}}
            }
        if name == "UseArtifact":
            self.used.add(values["input"]["artifactID"])
            return {"useArtifact": {"artifact": {"id": values["input"]["artifactID"]}}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/files"} for file in values["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if name == "SweepWithRuns":
            return {"project": {"sweep": {"id": "s", "name": "s", "config": self.sweep, "runs": {"edges": []}}}}
        if name == "CreateAgent":
            return {"createAgent": {"agent": {"id": "a"}}}
        if name == "Heartbeat":
            commands = [] if json.loads(values["runState"]) else [self.order_run()]
            return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}
        if name == "NotifyScriptableRunAlert":
            return {"notifyScriptableRunAlert": {"success": True}}
        return {}

    def order_run(self) -> dict[str, Any]:
        """Return what an agent does next."""
        if not self.orders:
            return {"type": "exit"}
        run_id, parameters = self.orders.pop(0)
        args = {name: {"value": value} for name, value in parameters.items()}
        return {"type": "run", "run_id": run_id, "program": "vqdist.train", "args": args}

    def describe(self, run_id: str) -> dict[str, Any] | None:
        """Return what a client needs to know to go on with a run."""
        if run_id not in self.history:
            return None
        lines = self.history[run_id]
        empty = {"summaryMetrics": "{}", "config": "{}", "eventsTail": "[]", "wandbConfig": '{"t": 1}', "tags": []}
        counts = {"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(lines)}
        tail = json.dumps(lines[-1:])
        return {"id": "b", "name": run_id, "displayName": "demo", "historyTail": tail, **empty, **counts}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._read()
        self._reply({})

    def do_POST(self) -> None:
        body = self._read()
        with self.server.lock:
            if self.path.endswith("file_stream"):
                self.server.stream(self.path.split("/")[-2], json.loads(body))
                self._reply({"exitcode": None, "limits": {}})
            elif self.path.endswith("graphql"):
                asked = json.loads(body)
                values = asked.get("variables") or {}
                if "UpsertBucket" in asked["query"] and values.get("name") in self.server.deleted:
                    found = f"run me/vqdist/{values['name']} was previously created and deleted; try a new run name"
                    self._reply({"errors": [{"message": found}], "data": {"upsertBucket": None}}, status=409)
                else:
                    self._reply({"data": self.server.answer(asked["query"], values)})
            else:
                self._reply({})

    def _read(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
