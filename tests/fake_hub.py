"""A local server that answers as the Hub does, and fails as it may."""

import base64
import collections
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from huggingface_hub import constants, file_download

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves `files` of one repository at one commit, which `main` points to until a push.

    Attributes:
        token: If there is one, nobody is let in without it.
        moved: Another name of the repository, from which the Hub redirects.
        storage: Another server that holds the files, to which the Hub redirects.
        requests: The method and path of every request.
        authorizations: And what each said of who it is from.
    """

    def __init__(self, repo, files):
        self.repo, self.files = repo, files
        self.commits, self.main = {COMMIT: files}, COMMIT
        self.token = self.moved = self.storage = None
        self.requests, self.authorizations, self.pushes = [], [], {}
        self.faults = collections.defaultdict(list)
        self.closing = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                with contextlib.suppress(ConnectionError):  # of who has not waited
                    hub.answer(self)

            do_GET = do_POST = do_HEAD

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def fail(self, fault, *, method="GET", times=1):
        """Lets the next requests of a method fail.

        Args:
            fault: "corrupt" (zeros), "short" (half of what the headers say), "less" (half, and the
                headers say so), "no ETag", a status, or seconds to wait before all is well.
            method: "GET" or "HEAD".
            times: How many of them.
        """
        self.faults[method] += [fault] * times

    def push_before(self, file, commit, files):
        """Moves `main` to another commit when `file` is first asked for."""
        self.pushes[file] = (commit, files)

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request):
        path = unquote(request.path.split("?")[0])
        if request.command == "GET" and "/resolve/" not in path:
            request.send_error(404)  # what else a version of huggingface_hub wants to know
            return
        self.requests.append((request.command, request.path))
        self.authorizations.append(request.headers.get("Authorization"))
        faults = self.faults[request.command]
        fault = faults.pop(0) if faults else None
        if isinstance(fault, float):
            self.closing.wait(fault)
        if isinstance(fault, int):
            status, headers, body = fault, {}, b""
        elif self.token is not None and self.authorizations[-1] is None:
            status, headers, body = 401, {"X-Error-Code": "RepoNotFound"}, b""
        elif self.token is not None and self.authorizations[-1] != f"Bearer {self.token}":
            message = {"X-Error-Message": "Invalid credentials in Authorization header"}
            status, headers, body = 401, message, b""
        elif request.command == "POST":
            length = int(request.headers["Content-Length"])
            status, headers, body = self.take(path, request.rfile.read(length))
        else:
            status, headers, body = self.look_up(path)
        if fault == "corrupt":
            body = bytes(len(body))
        elif fault == "less":
            body = body[: len(body) // 2]
        elif fault == "no ETag":
            del headers["ETag"]
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[: len(body) // 2] if fault == "short" else body)
        request.close_connection = fault == "short"

    def look_up(self, path):
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if repo == self.moved:
            return 307, {"Location": f"/{self.repo}/resolve/{rest}"}, b""
        if repo != self.repo:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if file in self.pushes:
            self.main, files = self.pushes.pop(file)
            self.commits[self.main] = files
        commit = self.main if revision == "main" else revision
        if commit not in self.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = self.commits[commit]
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        etag = f'"{hashlib.sha256(files[file]).hexdigest()}"'
        headers = {"X-Repo-Commit": commit, "ETag": etag}
        if self.storage is None:
            return 200, headers, files[file]
        linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(len(files[file]))}
        place = {"Location": f"{self.storage}/{self.repo}/resolve/{commit}/{file}"}
        return 302, headers | linked | place, b""

    def take(self, path, body):
        """Takes a push, all files of it in one request, as small ones are."""
        if path == "/api/repos/create":
            answer = {"url": f"{self.url}/{self.repo}"}
        elif path == "/api/validate-yaml":
            answer = {"errors": [], "warnings": []}
        elif path == f"/api/models/{self.repo}/preupload/main":
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            answer = {
                "files": [{"path": one["path"], **modes} for one in json.loads(body)["files"]]
            }
        elif path == f"/api/models/{self.repo}/commit/main":
            parts = [json.loads(line) for line in body.splitlines()]
            files = [part["value"] for part in parts if part["key"] == "file"]
            self.main = hashlib.sha1(body).hexdigest()
            self.commits[self.main] = {
                one["path"]: base64.b64decode(one["content"]) for one in files
            }
            answer = {
                "commitUrl": f"{self.url}/{self.repo}/commit/{self.main}",
                "commitOid": self.main,
            }
        else:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def use(monkeypatch, url):
    """Lets a server be the Hub, as HF_ENDPOINT does for a process that starts."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # the second in old versions
        monkeypatch.setattr(module, "ENDPOINT", url, raising=False)
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
