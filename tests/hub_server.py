"""A tiny model hub on this machine: what huggingface_hub asks for, and what it sends when it publishes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class Hub:
    """Serves `files` of the repository owner/tiny; owner/gated wants a token, and nothing else is there."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.created: list[dict] = []
        self.committed: dict[str, bytes] = {}
        self.token = "hf_right"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if "/owner/gated" in path:
            return self.refuse(403, "GatedRepo")
        if path == "/api/models/owner/tiny" or path.startswith("/api/models/owner/tiny/revision/"):
            return self.answer(
                {"id": "owner/tiny", "sha": COMMIT, "siblings": [{"rfilename": f} for f in self.hub.files]}
            )
        if path.startswith("/api/models/owner/tiny/tree/"):
            rows = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in self.hub.files.items()]
            return self.answer(rows)
        for base in ("/owner/tiny/resolve/main/", f"/owner/tiny/resolve/{COMMIT}/"):
            if path.startswith(base):
                return self.file(path.removeprefix(base))
        return self.refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        self.hub.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/validate-yaml"):
            return self.answer({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.refuse(401, "")
        if self.path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            return self.answer({"url": f"{self.hub.url}/owner/new", "id": "owner/new", "name": "owner/new"})
        if self.path.startswith("/api/models/owner/new/preupload/"):
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        if self.path.startswith("/api/models/owner/new/commit/"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.hub.committed[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self.hub.url}/owner/new/commit/{COMMIT}"
            return self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        return self.refuse(404, "RepoNotFound")

    def file(self, name):
        content = self.hub.files.get(name)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        etag = hashlib.sha1(content).hexdigest()
        self.reply(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def refuse(self, status, code):
        text = json.dumps({"error": code}).encode()
        self.reply(status, text, {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def answer(self, value):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
