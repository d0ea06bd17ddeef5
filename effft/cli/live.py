"""A report that is made again while runs go on, served to this machine alone."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from effft.reports.report import Report


class PageServer(ThreadingHTTPServer):
    """Answers GET / on 127.0.0.1 with `page`, and nothing else; only to a browser that asked for this address."""

    page = b""
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_port}"


class PageHandler(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer

    def do_GET(self) -> None:
        """The page; 404 for any other path, and for another host (a name that was bound to this machine)."""
        known = self.path == "/" and self.headers.get("Host") == self.server.address
        page = self.server.page if known else b""
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Nothing: requests are no news."""


def watch(make: Callable[[], "Report"], folder: Path, seconds: int) -> "Report":
    """Make and write the report every so many seconds until no comparison of the task runs; returns the last one."""
    report = make()
    with PageServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while report.under_way:
            if not server.page:
                click.echo(f"live: http://{server.address}/ (Ctrl-C ends this report; the runs go on)", err=True)
            server.page = report.files["report.html"].encode()
            report.write(folder)
            time.sleep(seconds)
            report = make()
        server.shutdown()
    return report
