"""The service's log: one JSON object a line on stderr, and no secret in any of them, whoever wrote the line."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

_HIDDEN: Final = "***"
_SECRETS: Final = (
    re.compile(r"(\bty_[A-Za-z0-9]+_)[A-Za-z0-9_\-]+"),  # our tokens: the id may be seen
    re.compile(r"(?i)(\bbearer\s+)[^\s\"',]+"),
    re.compile(r"(\w+://[^/\s:@\"']*:)[^/\s@\"']+(?=@)"),  # the password in a URL
    re.compile(r"(?i)(\b(?:token|secret|password|authorization|api_key)=)[^\s&\"',]+"),
)
_QUIET: Final = ("alembic", "httpx2", "httpcore2", "sqlalchemy", "uvicorn.error", "uvicorn.access")


def without_secrets(text: str) -> str:
    """`text` with whatever looks like a token or a password blotted out."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{_HIDDEN}", text)
    return text


class JsonLines(logging.Formatter):
    """One line a record; line breaks of a message stay within its JSON string, so that no line can be forged."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON: at, level, logger, message, and error where there is a traceback."""
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info:
            entry["error"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=True)


def log_to_stderr(level: str) -> None:
    """Have everything of this process logged so, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
