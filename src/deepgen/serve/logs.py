"""The server's log: a JSON object per line on standard error, whoever writes it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

QUIET: Mapping[str, int] = {
    # Its lines of a normal start and end say nothing that ours do not.
    "uvicorn.error": logging.WARNING,
    # What is wrong with a form is answered to its client, who chooses what it is.
    "python_multipart": logging.ERROR,
}


class JsonLines(logging.Formatter):
    """Time (UTC), level, event, and what the event has; other libraries' lines as ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; line breaks and control characters are escaped."""
        values: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
        }
        if isinstance(record.msg, Mapping):
            values |= record.msg
        else:
            values["message"] = record.getMessage()
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


def set_up() -> None:
    """Write the log of this process so."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
