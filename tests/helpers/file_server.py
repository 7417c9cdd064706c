"""A file server on this machine, and a process without any other."""
import http.server
import threading
import zipfile
from contextlib import contextmanager

from mxnetseg.models.weights import downloads

NOWHERE = "http://127.0.0.1:9/"  # the discard port: no server answers


def isolate(monkeypatch, folder):
    """Replace the home, the caches and all servers of weight files."""
    for variable, name in (("MXNETSEG_HOME", "home"), ("MXNET_HOME", "mxnet"), ("HF_HOME", "hf"),
                           ("TORCH_HOME", "torch")):
        monkeypatch.setenv(variable, str(folder / name))
    for variable in ("MXNETSEG_MIRROR", "MXNET_GLUON_REPO", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "STORE", NOWHERE)


@contextmanager
def served(answers):
    """A server on this machine: path -> bytes, or (bytes, headers), or a function of the handler.

    Yields (address, paths asked).
    """
    asked, stop = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path)
            if answer is None:
                return self.send_error(404)
            if callable(answer):
                return answer(self)
            data, headers = answer if isinstance(answer, tuple) else (answer, {})
            self.send_response(200)
            for key, value in {"Content-Length": len(data), **headers}.items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    Handler.stop = stop
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def zipped(folder, member, data, compress=True):
    archive = folder / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as writer:
        writer.writestr(member, data)
    return archive.read_bytes()
