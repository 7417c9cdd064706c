"""A server of one model, which answers as the Hugging Face hub does."""
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def hub(folder, name, revisions=("main",)):
    """Serve a folder as the model ``name``; yield the address, and the list of requests."""
    requests = []
    commit = "0123456789" * 4

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            path = self.path.partition("?")[0]
            files = sorted(folder.iterdir())
            if path in {f"/api/models/{name}/revision/{revision}" for revision in (*revisions, commit)}:
                self.json({"id": name, "sha": commit, "siblings": [{"rfilename": file.name} for file in files]})
            elif path == f"/api/models/{name}/tree/{commit}":
                self.json([{"type": "file", "path": file.name, "size": file.stat().st_size,
                            "oid": hashlib.sha256(file.read_bytes()).hexdigest()} for file in files])
            elif path in {f"/{name}/resolve/{commit}/{file.name}" for file in files}:
                self.answer((folder / path.rpartition("/")[2]).read_bytes(), "application/octet-stream")
            else:
                self.answer(b"", "text/plain", 404)

        do_HEAD = do_GET

        def json(self, content):
            self.answer(json.dumps(content).encode(), "application/json")

        def answer(self, body, kind, code=200):
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            if code == 404:
                self.send_header("X-Error-Code", "RepoNotFound" if name not in self.path else "RevisionNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
