"""A local server that answers the two requests a download from the Hub makes."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves `files` of one repository at one commit, which `main` points to until a push.

    With `damage`, the body of the first so many GET requests is replaced by zeros.
    """

    def __init__(self, repo, files, damage=0):
        self.repo, self.files, self.damage = repo, files, damage
        self.commits, self.main = {COMMIT: files}, COMMIT
        self.requests, self.pushes = [], {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                hub.answer(self)

            def do_GET(self):
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def push_before(self, file, commit, files):
        """Moves `main` to another commit when `file` is first asked for."""
        self.pushes[file] = (commit, files)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request):
        self.requests.append((request.command, request.path))
        status, headers, body = self.look_up(unquote(request.path.split("?")[0]))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            if status == 200 and self.damage > 0:
                self.damage -= 1
                body = bytes(len(body))
            request.wfile.write(body)

    def look_up(self, path):
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
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
        return 200, {"X-Repo-Commit": commit, "ETag": etag}, files[file]
