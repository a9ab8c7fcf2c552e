"""A stand-in for the Hub: the few requests that pushing, pulling and `load_dataset` make."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_REPOSITORY = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        repos = self.server.repos
        self.server.seen.append(f"{self.command} {path}")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            repos.setdefault(repo, {})
            self.server.private[repo] = asked.get("private") or asked.get("visibility") == "private"
            return self._json({"url": f"{self.server.address}/datasets/{repo}", "id": repo})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(repos.get(found[1], {}).get(found[2]))
        found = re.fullmatch(_REPOSITORY + r"(?:/(?P<what>[a-z-]+)(?:/(?P<rest>.*))?)?", path)
        if found is None or found["repo"] not in repos:
            return self._json({"error": "Repository not found"}, 404, code="RepoNotFound")
        files = repos[found["repo"]]
        what = found["what"] or "revision"
        if what == "preupload":
            listed = json.loads(body)["files"]
            return self._json(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in listed
                    ]
                }
            )
        if what == "commit":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            address = f"{self.server.address}/datasets/{found['repo']}/commit/{_commit(files)}"
            return self._json({"success": True, "commitUrl": address, "commitOid": _commit(files)})
        entries = [
            {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
            for name, data in sorted(files.items())
        ]
        if what == "revision":
            siblings = [{"rfilename": name} for name in sorted(files)]
            return self._json(
                {"id": found["repo"], "sha": _commit(files), "siblings": siblings, "tags": []}
            )
        if what == "tree":
            return self._json(entries)
        if what == "paths-info":
            wanted = json.loads(body)["paths"]
            return self._json([entry for entry in entries if entry["path"] in wanted])
        return self._json({"error": "unknown request"}, 404)

    def _file(self, data):
        if data is None:
            return self._json({"error": "Entry not found"}, 404, code="EntryNotFound")
        status, extra = 200, {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = data
        if wanted:
            end = int(wanted[2] or len(data) - 1)
            part = data[int(wanted[1]) : end + 1]
            status, extra = 206, {"Content-Range": f"bytes {wanted[1]}-{end}/{len(data)}"}
        extra |= {"ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes", "X-Repo-Commit": "0" * 40}
        return self._send(part, status, "application/octet-stream", extra)

    def _json(self, value, status=200, code=None):
        extra = {"X-Error-Code": code} if code else {}
        return self._send(json.dumps(value).encode(), status, "application/json", extra)

    def _send(self, data, status, kind, extra):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), **extra}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data):
    return hashlib.sha1(data).hexdigest()


def _commit(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextmanager
def local_hub():
    """Serve repositories from memory; gives the server with `address`, `repos`, `private`, `seen`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.repos, server.private, server.seen = {}, {}, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
