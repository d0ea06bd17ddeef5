"""A real `mlflow server`, and a proxy in front of it that can be told to answer wrongly."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """A real `mlflow server` on 127.0.0.1 that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = f"sqlite:///{folder}/server.db"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", self.store, "--serve-artifacts"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACKING")} | self.environment
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *words], stdout=log, stderr=log, cwd=self.folder, env=clean, start_new_session=True
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
                connection.request("GET", "/health")
                connection.getresponse()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """Passes requests on to a server; after `healthy` of them it answers the next `ill` in another way.

    token: who does not send it as `Authorization: Bearer TOKEN` is refused; '' lets everybody in.
    fault: '' (pass on), 'refused login' (401), 'nonsense' (HTML with status 200), 'no JSON fields' ({} to everything),
    'hang' (no answer), 'killed' (the server is stopped, once).
    """

    def __init__(self, server: Server) -> None:
        self.fault, self.token, self.healthy, self.ill, self.lock = "", "", 0, 10**9, threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"".join(self.parts())
                with proxy.lock:
                    proxy.healthy -= 1
                    fault = proxy.fault if -proxy.ill <= proxy.healthy < 0 else ""
                    if proxy.token and self.headers["Authorization"] != f"Bearer {proxy.token}":
                        fault = "refused login"
                    if fault == "killed":
                        server.stop()
                if fault == "hang":
                    time.sleep(300)
                elif fault and fault != "killed":
                    code = 401 if fault == "refused login" else 200
                    self.answer(code, b"{}" if "JSON" in fault else b"<html>Log in, please</html>")
                else:
                    del self.headers["Transfer-Encoding"]
                    connection = HTTPConnection("127.0.0.1", server.port)
                    try:
                        connection.request(self.command, self.path, body, dict(self.headers))
                        reply = connection.getresponse()
                    except OSError:
                        return  # without an answer, as the server itself
                    self.answer(reply.status, reply.read())

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def parts(self) -> Iterator[bytes]:
                """The body, which comes in chunks where it is an empty file."""
                if self.headers.get("Transfer-Encoding") != "chunked":
                    yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
