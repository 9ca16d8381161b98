from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError, MissingPromptsError
from deepgen.eval.benchmark import Benchmark, PromptFile
from deepgen.eval.benchmarks.dpg.benchmark import DPG
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.benchmarks.uniredit.benchmark import UNIREDIT
from deepgen.eval.benchmarks.wise.benchmark import WISE_VERIFIED
from deepgen.eval.fetch import Hosts, cache_folder, fetch, locate, recorded_hash, url_of
from deepgen.eval.registry import BENCHMARKS
from tests.eval.records import prompt_folder

LINE = b'{"tag": "colors", "include": [], "prompt": "a"}\n'


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Hosts]]:
    """A folder that stands for GitHub, and its address."""
    root = tmp_path / "github"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    yield root, Hosts(files=address, archives=address)
    server.shutdown()
    server.server_close()


def put(root: Path, benchmark: Benchmark, content: bytes, file: int = 0) -> None:
    path = root / url_of(benchmark, benchmark.source.files[file], Hosts(files="", archives=""))[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pinned(content: bytes | None) -> Benchmark:
    """GenEval with a prompt file of ours."""
    sha256 = hashlib.sha256(content).hexdigest() if content is not None else None
    file = replace(GENEVAL.source.files[0], sha256=sha256)
    return replace(GENEVAL, source=replace(GENEVAL.source, files=(file,)))


def test_a_fetched_file_is_the_pinned_one_and_is_fetched_once(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    benchmark = pinned(LINE)
    put(root, benchmark, LINE)
    folder = tmp_path / "data" / "geneval"
    (first,) = fetch(benchmark, folder, hosts)
    assert first.outcome == "fetched"
    assert first.path.read_bytes() == LINE
    assert list(folder.iterdir()) == [first.path]
    (root / "djghosh13").rename(root / "gone")
    (again,) = fetch(benchmark, folder, hosts)
    assert again.outcome == "present"
    assert len(benchmark.load(locate(benchmark, tmp_path / "data")).items) == 1


def test_an_altered_source_is_refused_and_nothing_is_written(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    benchmark = pinned(LINE)
    put(root, benchmark, LINE + LINE)
    (refused,) = fetch(benchmark, tmp_path / "data", hosts)
    assert refused.outcome == "failed"
    assert "is not the pinned file: its SHA-256 is" in refused.note
    assert not (tmp_path / "data").exists()


def test_an_altered_file_of_the_user_is_named(tmp_path: Path) -> None:
    benchmark = pinned(LINE)
    (tmp_path / "evaluation_metadata.jsonl").write_bytes(LINE)
    assert locate(benchmark, tmp_path) == tmp_path
    (tmp_path / "evaluation_metadata.jsonl").write_bytes(LINE.replace(b"colors", b"counting"))
    with pytest.raises(BenchmarkError, match=r"metadata.jsonl is not the file of geneval") as info:
        locate(benchmark, tmp_path)
    assert "deepgen eval fetch geneval" in str(info.value)
    assert "\n" not in str(info.value)


def test_a_damaged_copy_is_fetched_again(served: tuple[Path, Hosts], tmp_path: Path) -> None:
    root, hosts = served
    benchmark = pinned(LINE)
    put(root, benchmark, LINE)
    (tmp_path / "evaluation_metadata.jsonl").write_bytes(LINE[:-5])
    (fetched,) = fetch(benchmark, tmp_path, hosts)
    assert (fetched.outcome, fetched.path.read_bytes()) == ("fetched", LINE)


def test_a_file_that_nobody_verified_is_pinned_when_first_fetched(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    benchmark = pinned(None)
    put(root, benchmark, LINE)
    (fetched,) = fetch(benchmark, tmp_path, hosts)
    assert fetched.note.startswith("not verified: SHA-256 ")
    assert locate(benchmark, tmp_path) == tmp_path
    fetched.path.write_bytes(LINE + LINE)
    with pytest.raises(BenchmarkError, match="is not the file of geneval"):
        locate(benchmark, tmp_path)


def test_an_unreachable_host_says_what_to_do(served: tuple[Path, Hosts], tmp_path: Path) -> None:
    _, hosts = served
    (absent,) = fetch(GENEVAL, tmp_path, hosts)
    assert "cannot be fetched (File not found)" in absent.note
    nobody = Hosts(files="http://127.0.0.1:9", archives="http://127.0.0.1:9")
    (unreachable,) = fetch(GENEVAL, tmp_path, nobody)
    assert "check the network and try again, or put the file at" in unreachable.note
    assert "\n" not in unreachable.note
    assert [absent.outcome, unreachable.outcome] == ["failed", "failed"]


def test_one_file_that_does_not_come_keeps_no_other_from_coming(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    second = replace(GENEVAL.source.files[0], path="second.jsonl", repo_path="prompts/second.jsonl")
    whole = pinned(LINE)
    files = (second, *whole.source.files)
    benchmark = replace(whole, source=replace(whole.source, files=files))
    put(root, benchmark, LINE, file=1)
    failed, fetched = fetch(benchmark, tmp_path / "data", hosts)
    assert [failed.outcome, fetched.outcome] == ["failed", "fetched"]
    assert list((tmp_path / "data").iterdir()) == [fetched.path]


def test_a_connection_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Half(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(LINE)))
            self.end_headers()
            self.wfile.write(LINE)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    (broken,) = fetch(pinned(None), tmp_path / "data", Hosts(files=address, archives=address))
    server.shutdown()
    server.server_close()
    assert broken.outcome == "failed"
    assert "IncompleteRead" in broken.note
    assert not (tmp_path / "data").exists()


def test_the_questions_of_a_judge_come_with_the_prompts(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    place = root / "Maplebb" / "UniREditBench" / "a7015c5" / "eval" / "utils.py"
    place.parent.mkdir(parents=True)
    place.write_text("prompt = 'Judge.'")
    _, questions = fetch(UNIREDIT, tmp_path, hosts)
    assert questions.outcome == "fetched"
    assert questions.path == tmp_path / "official" / "eval" / "utils.py"
    # What was fetched first is what counts: another file under that address is refused.
    questions.path.unlink()
    place.write_text("prompt = 'Judge mildly.'")
    _, again = fetch(UNIREDIT, tmp_path, hosts)
    assert again.outcome == "failed"
    assert "is not the pinned file" in again.note
    assert not again.path.exists()


def test_a_file_without_a_repository_is_asked_for(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    _, hosts = served
    asked, _ = fetch(UNIREDIT, tmp_path, hosts)
    assert asked.outcome == "by hand"
    assert "huggingface.co/datasets/maplebb/UniREditBench" in asked.note
    (tmp_path / "data.json").write_text("[]")
    found, _ = fetch(UNIREDIT, tmp_path, hosts)
    assert (found.outcome, found.note) == ("present", "not verified: no pinned hash")


def test_single_texts_in_an_archive_become_one_file(
    served: tuple[Path, Hosts], tmp_path: Path
) -> None:
    root, hosts = served
    texts = {
        row["key"]: row["prompt"]
        for line in (prompt_folder("dpg_bench") / "prompts_dpgbench.jsonl").open(encoding="utf-8")
        for row in [json.loads(line)]
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for name, text in reversed(texts.items()):
            members.writestr(f"ELLA-3c228f1/dpg_bench/prompts/{name}.txt", text)
        members.writestr("ELLA-3c228f1/README.txt", "not a prompt")
    put(root, DPG, archive.getvalue())
    put(root, DPG, b"item_id\n", file=1)
    prompts, questions = fetch(DPG, tmp_path / "dpg_bench", hosts)
    # The real hash: what the archive's texts make is the list that is pinned.
    assert (prompts.outcome, prompts.note) == ("fetched", "")
    assert questions.note.startswith("not verified")

    put(root, DPG, b"no archive")
    broken, _ = fetch(DPG, tmp_path / "other", hosts)
    assert "is not a whole zip archive" in broken.note


def test_single_texts_of_the_user_are_checked_like_the_list(tmp_path: Path) -> None:
    lines = (prompt_folder("dpg_bench") / "prompts_dpgbench.jsonl").read_text(encoding="utf-8")
    folder = tmp_path / "prompts"
    folder.mkdir()
    for line in lines.splitlines():
        row = json.loads(line)
        (folder / f"{row['key']}.txt").write_bytes(row["prompt"].encode())
    assert len(DPG.load(locate(DPG, tmp_path)).items) == 1065
    (folder / "0.txt").write_text("something else")
    with pytest.raises(BenchmarkError, match="is not the file of dpg"):
        locate(DPG, tmp_path)


@pytest.mark.parametrize("name", [n for n, each in BENCHMARKS.items() if each.source.files])
def test_the_real_files_have_the_pinned_hashes(name: str) -> None:
    benchmark = BENCHMARKS[name]
    if benchmark is UNIREDIT:
        pytest.skip("nothing of UniREditBench was obtained")
    assert locate(benchmark, prompt_folder(benchmark.folder).parent).name == benchmark.folder


def test_prompts_that_were_never_fetched_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "benchmarks"
    with pytest.raises(MissingPromptsError, match="deepgen eval fetch wise/verified"):
        locate(WISE_VERIFIED)
    with pytest.raises(BenchmarkError, match="there is no folder"):
        locate(WISE_VERIFIED, tmp_path / "nowhere")


def test_every_file_has_a_home_or_is_asked_for_by_hand() -> None:
    files: list[tuple[Benchmark, PromptFile]] = [
        (benchmark, file) for benchmark in BENCHMARKS.values() for file in benchmark.source.files
    ]
    assert all(file.repo_path or file.by_hand for _, file in files)
    urls = {url_of(benchmark, file) for benchmark, file in files if file.repo_path}
    assert all(url.startswith(("https://raw.github", "https://codeload.github")) for url in urls)


def test_hashes_that_somebody_edited_are_refused_by_their_file(tmp_path: Path) -> None:
    (tmp_path / "checksums.json").write_text("[1]")
    with pytest.raises(BenchmarkError, match=r"checksums\.json is no object of hashes"):
        recorded_hash(tmp_path, "prompts.txt")
