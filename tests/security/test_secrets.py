"""A password in an address and a token of the environment reach no store, no file, no sentence and no log."""

import json
import os
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from place import make_place

from effft.cli.exit_codes import run_command_line
from effft.redaction import TOKENS, redact, secret_values
from effft.tracking.postgres import with_driver

PASSWORD, TOKEN = "hunter2SWORDFISHxyz", "anotherSWORDFISHtoken"
MARK = "SWORDFISH"
TASK = """\
name: told
fields: [text]
labels: [without, with_dog]
train: train.csv
in_domain: test.csv
ood: {far: {url: "https://user:hunter2SWORDFISHxyz@example.com/far.tsv?token=hunter2SWORDFISHxyz&page=2"}}
"""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://u:SECRET1@host:5/x", "http://***@host:5/x"),
        ("postgresql+psycopg2://u:SECRET1%40x@host/db, and", "postgresql+psycopg2://***@host/db, and"),
        ("no postgresql://u:SECRET/1'x@host/db said a@b", "no postgresql://***@host/db said a@b"),
        ("https://SECRET1@host/a https://host/b", "https://***@host/a https://host/b"),
        ("s3://b?AWSSecretKey=SECRET1&x=1", "s3://b?AWSSecretKey=***&x=1"),
        ("https://h/x?a=1&access_token=SECRET1' said", "https://h/x?a=1&access_token=***' said"),
        ("https://h/x?X-Amz-Signature=SECRET1&b=2", "https://h/x?X-Amz-Signature=***&b=2"),
        ("the token hf_abcdefghijklmnopqrSECRET1 was", "the token *** was"),
        ("Authorization: Bearer SECRET1.abc-def", "Authorization: ***"),
        ("user@example.com wrote to a@b", "user@example.com wrote to a@b"),
        ("https://h/x?page=2&monkey=1", "https://h/x?page=2&monkey=1"),
        ("https://h/x?viewStateShareKey=name&design=2", "https://h/x?viewStateShareKey=name&design=2"),
        ("https://h/x?api-key=SECRET1&key=SECRET1&sig=SECRET1", "https://h/x?api-key=***&key=***&sig=***"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("https:/u:SECRET1@host/x", "https:/***@host/x"),
        ("models:/effft-cola@champion", "models:/effft-cola@champion"),
        ('a?b:/x/.test(c)&&d(":/e@f")', 'a?b:/x/.test(c)&&d(":/e@f")'),
    ],
)
def test_what_is_taken_out(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    assert secret_values(os.environ) == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "abc")  # too short to be told from a word
    assert redact(f"abc {TOKEN}s") == "abc ***s"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=6), st.booleans())
def test_a_password_of_any_characters_is_masked(password: str, is_quoted: bool) -> None:
    address = f"postgresql://me:{quote(password, safe='') if is_quoted else password}@host/db"
    for said in (address, f"cannot reach {address} now", f"password {password!s} refused"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            assert password not in redact(said).replace("***", "")


def test_an_address_that_was_opened_is_masked_wherever_it_is_given() -> None:
    with_driver("postgresql://me:中文 two'words%41@host/db")
    assert redact("password 中文 two'words%41 refused, also 中文 two'wordsA") == "password *** refused, also ***"


@pytest.fixture
def hidden(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task whose OOD set stands behind a password, and a process with a token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    make_place(tmp_path, "llama")
    (tmp_path / "told.yaml").write_text(TASK)
    assert tracking_uri
    return tmp_path


def go(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    """The exit code and everything that was printed; the command line is the process's own."""
    monkeypatch.setattr(sys, "argv", ["effft", *words])
    capsys.readouterr()
    code = run_command_line(list(words))
    return code, "".join(capsys.readouterr())


def holders(folder: Path, but: str) -> list[str]:
    """Files that hold the sentinel."""
    own = [path for path in folder.rglob("*") if path.is_file() and path.name != but]
    assert len(own) >= 9
    return [str(path) for path in own if MARK.encode() in path.read_bytes()]


class Rows(BaseHTTPRequestHandler):
    """Answers every question with two rows."""

    def do_GET(self) -> None:
        body = b"text\tlabel\nold dog\twith_dog\nnew cat\twithout\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def https_server(folder: Path) -> Iterator[int]:
    """The port of a server whose certificate is `folder/pem`, for the name localhost."""
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    subprocess.run([*make, "-keyout", folder / "pem.key", "-out", folder / "pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem", folder / "pem.key")
    with ThreadingHTTPServer(("localhost", 0), Rows) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate of the server")
def test_a_run_and_its_report_hold_no_secret(hidden: Path) -> None:
    with https_server(hidden) as port:
        run_and_report(hidden, f"localhost:{port}")


def run_and_report(hidden: Path, host: str) -> None:
    (hidden / "told.yaml").write_text(TASK.replace("example.com", host))
    trusted = {"SSL_CERT_FILE": str(hidden / "pem"), "HF_HUB_OFFLINE": "0", "HF_HOME": str(hidden.parent / "home")}

    def go(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "effft", *words], env=os.environ | trusted, cwd=hidden, capture_output=True,
            text=True, timeout=200, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    common = ["--task", str(hidden / "told.yaml"), "--model", str(hidden / "llama"), "--per-label", "4"]
    printed = []
    for strategy, more in (("probe", ["--log-model", "true"]), ("lora", [])):
        code, said = go("run", strategy, *common, "--bootstrap", "10", *more)
        assert code == 0, said
        printed.append(said)
    code, said = go("report", "--task", str(hidden / "told.yaml"), "--out", str(hidden / "report"))
    assert code == 0, said
    assert (hidden / "report" / "report.html").is_file()
    assert holders(hidden, but="told.yaml") == []
    with closing(sqlite3.connect(hidden / "mlflow.db")) as store:
        sources = [json.loads(row[0])["uri"] for row in store.execute("select dataset_source from datasets")]
    assert f"https://***@{host}/far.tsv?token=***&page=2" in sources
    assert MARK not in "".join([*printed, said])


HOST = f"http://user:{PASSWORD}@127.0.0.1:9"
FAILING = [
    ["run", "probe", "--tracking-uri", HOST],
    ["run", "probe", "--tracking-uri", f"postgresql://user:{PASSWORD}@127.0.0.1:9/db"],
    ["run", "probe", "--tracking-uri", f"nothing://user:{PASSWORD}@x/y"],
    ["run", "probe", "--tracking-uri", f"http://user:{PASSWORD}@x:port"],
    ["run", "probe", "--model", f"https://user:{PASSWORD}@example.com/model"],
    ["run", "probe", "--task", f"https://user:{PASSWORD}@example.com/task.yaml"],
    ["run", "probe", "--data-dir", f"https://user:{PASSWORD}@example.com/"],
    ["run", "probe", "--rank", f"https://user:{PASSWORD}@example.com/"],
    ["run", f"https://user:{PASSWORD}@example.com/"],
    ["run", "probe", "--experiment", "x", "--revision", TOKEN, "--model", "nobody/nothing"],
    ["search", "--tracking-uri", HOST],
    ["search", "--storage", f"postgresql://user:{PASSWORD}@127.0.0.1:9/db"],
    ["search", "--storage", f"nothing://user:{PASSWORD}@127.0.0.1:9/db"],
    ["models", "--tracking-uri", HOST],
    ["report", "--task", "agreement", "--tracking-uri", HOST],
    ["predict", "--model", "models:/x/1", "--text", "x", "--tracking-uri", HOST],
    ["predict", "--model", f"https://user:{PASSWORD}@example.com/", "--text", "x"],
    ["ui", "--tracking-uri", HOST],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", FAILING, ids=lambda words: " ".join(words).replace(PASSWORD, "*")[:60])
def test_sentences_hold_no_secret(
    words: list[str], hidden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["--per-label", "4"] if words[0] in ("run", "search") else []
    code, said = go(capsys, monkeypatch, *words, *own)
    assert code in (1, 2) or words[0] == "ui"
    assert said.strip()
    assert MARK not in said
    code, said = go(capsys, monkeypatch, *words, *own, "--traceback")
    assert MARK not in said
    assert holders(hidden, but="told.yaml") == []


def test_secrets_are_masked_not_just_absent(hidden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["run", "probe", "--task", f"https://u:{PASSWORD}@example.com/task.yaml"]) == 2
    assert re.search(r"https:/\*\*\*@example\.com/task\.yaml", capsys.readouterr().err)


def test_a_recovery_file_holds_no_password(hidden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from effft.tracking.recovery import RecoveryFile

    file = RecoveryFile.create("some-run", HOST)
    assert MARK not in file.path.read_text()
    assert run_command_line(["resend", str(file.path)]) == 2
    said = capsys.readouterr().err
    assert "the password of http://***@127.0.0.1:9 is not in the file; give the address with --tracking-uri." in said
