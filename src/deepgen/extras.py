"""How to install what only some tasks need, for the installation that is running."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "deepgen-image"


def install_line(extras: str) -> str:
    """The command that adds extras, such as ``serve,ray``, to this installation.

    A clone that was installed by its path is named by it, since an index may not have the package.
    """
    try:
        origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if url.startswith("file:"):
        path = unquote(urlsplit(url).path)
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{path}[{extras}]')}"
    if "vcs_info" in origin:
        source = f"{origin['vcs_info'].get('vcs', 'git')}+{url}"
        return f"pip install {shlex.quote(f'{DISTRIBUTION}[{extras}] @ {source}')}"
    return f"pip install '{DISTRIBUTION}[{extras}]'"
