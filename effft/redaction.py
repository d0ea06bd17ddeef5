"""What must never be written anywhere: passwords in addresses, and tokens."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

TOKENS = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCESS_KEY", "DATABRICKS_TOKEN", "PGPASSWORD",
)  # fmt: skip
"""Environment variables whose value is a secret."""

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "EFFFT_STORAGE")
"""Environment variables that hold an address, perhaps with a password."""

MIN_SECRET_LENGTH = 6  # Characters. Shorter values are not masked: they would match ordinary text.

IN_ADDRESS = re.compile(r"(\b(?!models:|runs:)[A-Za-z][\w+.-]*:/{1,2})[^/\s'\"]*@")
"""User and password of an address; a path made of an address has one slash. `models:/NAME@champion` has neither."""
IN_DATABASE = re.compile(r"\b((?:postgres(?:ql)?|mysql|mariadb|mssql|oracle)(?:\+\w+)?:/{1,2})\S*@")
"""Of a database: its password may hold '/' and quotes."""
USERINFO = re.compile(r"://[^/:@]*:(.+)@")  # A whole address with a password, which may hold any character.

IN_QUERY = re.compile(
    r"([?&;](?:key|sig|[^=&\s'\"]*(?:token|secret|passw(?:or)?d|pwd|signature|credential|"
    r"(?:access|account|api|private)[-_]?key)[^=&\s'\"]*)=)[^&\s'\"]+",
    re.I,
)
ALONE = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|ghp_[A-Za-z0-9]{16,}|Bearer\s+[\w.~+/-]{8,}=*)")

_opened: set[str] = set()


def remember(address: str) -> str:
    """The address as it is; from now on its password is masked, wherever a library prints it."""
    _opened.add(address)
    return address


def redact(text: str) -> str:
    """The text with '***' for the user and password of addresses, for tokens, and for the secrets of this process."""
    text = ALONE.sub("***", text)  # first: a known secret may be a part of a token
    for value in secret_values(os.environ, [*sys.argv, *_opened]):
        text = text.replace(value, "***")
    text = IN_ADDRESS.sub(r"\1***@", IN_DATABASE.sub(r"\1***@", text))
    return IN_QUERY.sub(r"\1***", text)


def secret_values(environment: Mapping[str, str], words: Sequence[str] = ()) -> list[str]:
    """The secrets in an environment and in words that may be addresses, the longest first.

    Passwords of addresses count as they were given and decoded (`%20` is a space): libraries print either.
    """
    secrets = {environment.get(name, "").strip() for name in TOKENS}
    for address in (*(environment.get(name, "") for name in ADDRESSES), *words):
        if given := USERINFO.search(address):
            secrets |= {given[1], unquote(given[1]), quote(unquote(given[1]), safe="")}
    return sorted((value for value in secrets if len(value) >= MIN_SECRET_LENGTH), key=len, reverse=True)
