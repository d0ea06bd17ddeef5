"""What must never be written anywhere: passwords in addresses, and tokens."""

import os
import re
from collections.abc import Mapping

TOKENS = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCESS_KEY", "DATABRICKS_TOKEN", "PGPASSWORD",
)  # fmt: skip
"""Environment variables whose value is a secret."""

MIN_SECRET_LENGTH = 6
"""Characters; a shorter value is no token, and leaving it out would maim every sentence."""

IN_ADDRESS = re.compile(r"(:/{1,2})[^/\s'\"]*@")  # a path made of an address has one slash
IN_DATABASE = re.compile(r"\b((?:postgres(?:ql)?|mysql|mariadb|mssql|oracle)(?:\+\w+)?:/{1,2})\S*@")
"""Of a database: its password may hold '/' and quotes."""

IN_QUERY = re.compile(
    r"([?&;](?:key|sig|[^=&\s'\"]*(?:token|secret|passw(?:or)?d|pwd|signature|credential|"
    r"(?:access|account|api|private)[-_]?key)[^=&\s'\"]*)=)[^&\s'\"]+",
    re.I,
)
ALONE = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|ghp_[A-Za-z0-9]{16,}|Bearer\s+[\w.~+/-]{8,}=*)")


def redact(text: str) -> str:
    """The text with '***' for the user and password of addresses, for tokens, and for those of this process."""
    text = IN_ADDRESS.sub(r"\1***@", IN_DATABASE.sub(r"\1***@", text))
    text = IN_QUERY.sub(r"\1***", text)
    text = ALONE.sub("***", text)
    for value in secret_values(os.environ):
        text = text.replace(value, "***")
    return text


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """The secrets in an environment, the longest first."""
    found = {environment.get(name, "").strip() for name in TOKENS}
    return sorted((value for value in found if len(value) >= MIN_SECRET_LENGTH), key=len, reverse=True)
