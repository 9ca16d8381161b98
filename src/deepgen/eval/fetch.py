"""Prompt files from their authors' hosts at pinned commits, checked against their hashes.

With them come the files that hold the official judge prompts, which scoring needs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import Request

from deepgen.errors import BenchmarkError, MissingPromptsError
from deepgen.eval.benchmark import Benchmark, GenerationRule, PromptFile
from deepgen.eval.prompt_files import MAX_FILE_BYTES, find_file, read_json
from deepgen.exchange import open_url
from deepgen.images.io import atomic_file
from deepgen.locks import locked
from deepgen.outputs import check_writable
from deepgen.reading import read_bytes

TIMEOUT_SECONDS = 600.0
"""For one file: the largest archive, over a slow line."""

# The largest prompt file has 2 MB and the one archive some tens; more is not what was asked for.
MOST_BYTES = 256 * 2**20

OFFICIAL = "official"
"""Folder of the files with the official judge prompts, beside the prompts."""

RECORDED = "checksums.json"
"""Hashes of files that nobody had verified when they were first fetched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosts:
    """Servers that files are fetched from."""

    files: str = "https://raw.githubusercontent.com"
    archives: str = "https://codeload.github.com"


GITHUB = Hosts()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What became of one file."""

    path: Path
    outcome: Literal["fetched", "present", "by hand", "failed"]
    """``by hand``: it has no pinned address; ``failed``: it has one, and did not come from it."""
    note: str = ""


def cache_folder() -> Path:
    """Where fetched prompts are kept: ``DEEPGEN_CACHE``, else a folder in the user's own cache."""
    named = os.environ.get("DEEPGEN_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "deepgen") / "benchmarks"


def locate(benchmark: Benchmark, data: Path | None = None) -> Path:
    """The folder of a benchmark's prompts, all its files unaltered.

    Args:
        data: Folder of the benchmark's files, or one that holds its folder; None is the cache.

    Raises:
        MissingPromptsError: The benchmark was never fetched.
        BenchmarkError: There is no folder of that name, or a file differs from the pinned one.
    """
    root = cache_folder() if data is None else data
    folder = root / benchmark.folder
    if benchmark.render_sources is not None:
        # Nothing is fetched of a benchmark whose prompts are computed.
        return cache_folder() / benchmark.folder
    if not folder.is_dir():
        if data is None:
            raise MissingPromptsError(
                f"the prompts of {benchmark.name} are not on this machine; fetch them with "
                f"deepgen eval fetch {benchmark.name}, or name their folder with --data"
            )
        folder = data
    if not folder.is_dir():
        raise BenchmarkError(f"there is no folder {folder}; name the one that holds the prompts")
    for file in benchmark.source.files:
        _verify(benchmark, file, folder)
    return folder


def source_folder(benchmark: Benchmark, prompts: Path, rule: GenerationRule) -> Path:
    """Where the images to edit are: beside the prompts, or rendered at the size of the run."""
    if benchmark.render_sources is None or rule.height is None:
        return prompts
    return prompts / f"{rule.height}x{rule.width}"


def fetch(benchmark: Benchmark, folder: Path, hosts: Hosts = GITHUB) -> list[Fetched]:
    """Bring every file into the benchmark's folder; what is there and right stays.

    One that cannot be had, or is not the pinned one, does not keep the others from coming, and
    leaves nothing behind.

    Raises:
        FolderInUseError: Another process is fetching into it.
        ValueError: Nothing can be written there.
    """
    check_writable(folder)
    with locked(folder):
        return [
            _fetch_one(url_of(benchmark, file, hosts), file, folder)
            for file in benchmark.source.files
        ] + _fetch_judge_prompts(benchmark, folder / OFFICIAL, hosts)


def _fetch_judge_prompts(benchmark: Benchmark, folder: Path, hosts: Hosts) -> list[Fetched]:
    """The file of the official judge prompts, where the benchmark has them."""
    if benchmark.judge_prompts is None or benchmark.judge_prompts.official is None:
        return []
    pinned = benchmark.judge_prompts.official.file
    url = f"{hosts.files}/{pinned.repository}/{pinned.commit}/{pinned.path}"
    file = PromptFile(path=pinned.path, repo_path=pinned.path, sha256=pinned.sha256)
    return [_fetch_one(url, file, folder)]


def _fetch_one(url: str, file: PromptFile, folder: Path) -> Fetched:
    path = folder / file.path
    try:
        known = expected_hash(file, folder)
        if path.is_file() and known and _hash(_content(path)) == known:
            return Fetched(path=path, outcome="present")
        if file.repo_path is None:
            if path.is_file():
                return Fetched(path=path, outcome="present", note="not verified: no pinned hash")
            note = f"has no pinned address: get it from {file.by_hand} and put it there"
            return Fetched(path=path, outcome="by hand", note=note)
        content = _download(url, path)
        if file.repo_path.endswith("/"):
            content = _lines_of_archive(content, file.repo_path, url)
        found = _hash(content)
        if known and found != known:
            raise BenchmarkError(
                f"{url} is not the pinned file: its SHA-256 is {found}, expected {known}; nothing "
                f"was written, so put the right file at {path} or name its folder with --data"
            )
        _write_whole(path, content)
        if known:
            return Fetched(path=path, outcome="fetched")
        record_hash(folder, file.path, found)
    except BenchmarkError as failure:
        return Fetched(path=path, outcome="failed", note=str(failure))
    return Fetched(path=path, outcome="fetched", note=f"not verified: SHA-256 {found} recorded")


def _write_whole(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, overwrite=True) as part:
            part.write_bytes(content)
    except OSError as cause:
        raise BenchmarkError(
            f"{path} cannot be written ({cause.strerror}); choose another folder with --data"
        ) from None


def url_of(benchmark: Benchmark, file: PromptFile, hosts: Hosts = GITHUB) -> str:
    """Address of a file at its pinned commit; of a folder, that of the whole archive."""
    source = benchmark.source
    repository, commit = source.prompts_from or (source.repository, source.commit)
    if str(file.repo_path).endswith("/"):
        return f"{hosts.archives}/{repository}/zip/{commit}"
    return f"{hosts.files}/{repository}/{commit}/{file.repo_path}"


def expected_hash(file: PromptFile, folder: Path) -> str | None:
    """The pinned hash of a file, else the one recorded when it was first fetched."""
    return file.sha256 or recorded_hash(folder, file.path)


def recorded_hash(folder: Path, file: str) -> str | None:
    """The hash that a file had when it was first fetched, if that was recorded."""
    found = _recorded(folder).get(file)
    return found if isinstance(found, str) else None


def _recorded(folder: Path) -> dict[str, Any]:
    """Hashes of a folder's files when they were first fetched.

    Raises:
        BenchmarkError: Somebody edited them.
    """
    path = folder / RECORDED
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise BenchmarkError(f"{path} is no object of hashes by file; delete it and fetch again")
    return found


def _verify(benchmark: Benchmark, file: PromptFile, folder: Path) -> None:
    known = expected_hash(file, folder)
    if known is None:
        return
    path = find_file(folder, file.path, str(file.repo_path), PurePosixPath(file.path).name)
    if path is not None:
        found = _hash(_content(path))
    elif texts := _texts(file, folder):
        path = texts[0].parent
        found = _hash(_as_lines((text.stem, _content(text)) for text in texts))
    else:
        return
    if found != known:
        raise BenchmarkError(
            f"{path} is not the file of {benchmark.name} at its pinned commit: its SHA-256 is "
            f"{found}, expected {known}; fetch it again with deepgen eval fetch {benchmark.name}"
        )


def _texts(file: PromptFile, folder: Path) -> list[Path]:
    """The single texts of a file of lines, where a checkout of the repository has them."""
    in_repo = PurePosixPath(str(file.repo_path))
    places = (in_repo.name, str(in_repo)) if str(file.repo_path).endswith("/") else ()
    return [text for place in places for text in (folder / place).glob("*.txt")]


def _download(url: str, path: Path) -> bytes:
    try:
        with open_url(Request(url), TIMEOUT_SECONDS, redirects=True) as response:
            content: bytes = response.read(MOST_BYTES + 1)
            # Reading so many bytes at once takes a connection that breaks off for the end.
            if response.length and len(content) <= MOST_BYTES:
                raise IncompleteRead(b"", response.length)
    except (URLError, OSError, HTTPException) as cause:
        reason = getattr(cause, "reason", cause)
        raise BenchmarkError(
            f"{url} cannot be fetched ({reason}); check the network and try again, or put the "
            f"file at {path}"
        ) from cause
    if len(content) > MOST_BYTES:
        raise BenchmarkError(f"{url} has more than {MOST_BYTES // 2**20} MB: not a prompt file")
    return content


def _lines_of_archive(archive: bytes, repo_path: str, url: str) -> bytes:
    """The texts of a folder in an archive whose members all lie in one top folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as members:
            texts = [
                (PurePosixPath(name).stem, members.read(name))
                for name in members.namelist()
                if name.partition("/")[2].startswith(repo_path) and name.endswith(".txt")
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError) as cause:
        raise BenchmarkError(f"{url} is not a whole zip archive ({cause}); try again") from cause
    if not texts:
        raise BenchmarkError(f"{url} has no texts in {repo_path}; put the prompts there by hand")
    return _as_lines(texts)


def _as_lines(texts: Iterable[tuple[str, bytes]]) -> bytes:
    """One line of JSON for each text, in the order of their names."""
    lines = [
        json.dumps({"prompt": text.decode(), "key": name}, ensure_ascii=False)
        for name, text in sorted(texts)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _content(path: Path) -> bytes:
    return read_bytes(path, limit=MAX_FILE_BYTES)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record_hash(folder: Path, file: str, found: str) -> None:
    """Keep the hash of a file that nobody has verified: from now on it is expected."""
    path = folder / RECORDED
    text = json.dumps({**_recorded(folder), file: found}, indent=1) + "\n"
    _write_whole(path, text.encode())
