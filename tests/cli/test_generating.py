from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.console import ProgressLines, duration
from deepgen.cli.generating_on_ray import absolute
from deepgen.cli.main import main
from deepgen.cli.options import ImageOptions
from deepgen.errors import CheckpointError
from tests.cli import stub
from tests.cli.stub import RayError, StubPipeline, stub_ray

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def pipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> StubPipeline:
    monkeypatch.chdir(tmp_path)
    return stub.install(monkeypatch, tmp_path_factory.mktemp("model"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "own.png"
    Image.new("RGB", (48, 80), (1, 2, 3)).save(path)
    return path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_standard_output_is_the_path_and_nothing_else(pipe: StubPipeline, capsys: Captured) -> None:
    assert main(["generate", "a cat", "--output", "cat.png", "--seed", "7"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "cat.png\n"
    assert captured.err == ""
    assert pipe.calls[0]["prompt"] == "a cat"
    assert pipe.calls[0]["image"] is None


def test_weights_of_gguf_files_are_loaded_and_recorded(
    pipe: StubPipeline,
    image: Path,
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "dit.gguf").write_bytes(b"GGUF")
    assert main(["generate", "a cat", "--gguf", "dit.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gguf"] == ["dit.gguf"]
    # The real loader, which gives up as soon as it has been asked.
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    def load(*_: object, **given: object) -> None:
        raise ValueError(f"asked for {given['gguf']}")

    monkeypatch.setattr("deepgen.pipeline.loading.DeepGenPipeline.from_pretrained", load)
    assert main(["edit", "red", str(image), "--gguf", "dit.gguf"]) == 2
    said = capsys.readouterr().err
    assert "loading mini with dit.gguf" in said
    assert "asked for (PosixPath('dit.gguf'),)" in said


def test_json_has_the_promised_fields(pipe: StubPipeline, capsys: Captured) -> None:
    assert main(["generate", "ein Ä", "--output", "a.png", "--seed", "7", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.pop("seconds") >= 0
    assert record == {
        "path": "a.png",
        "prompt": "ein Ä",
        "seed": 7,
        "width": 64,
        "height": 64,
        "steps": 3,
        "guidance": 2.5,
        "model": "mini",
    }


def test_a_drawn_seed_is_reported_and_makes_the_same_file(
    pipe: StubPipeline, capsys: Captured, tmp_path: Path
) -> None:
    assert main(["generate", "a cat", "--output", "a.png"]) == 0
    seed = capsys.readouterr().err.rpartition("--seed ")[2].strip()
    assert int(seed) == pipe.calls[0]["seed"]
    assert main(["generate", "a cat", "--output", "b.png", "--seed", seed]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_a_name_the_seed_names_the_file(
    pipe: StubPipeline, tmp_path: Path, image: Path
) -> None:
    assert main(["generate", "a cat", "--seed", "5"]) == 0
    assert main(["edit", "green", "own.png", "--seed", "5"]) == 0
    assert files(tmp_path) == {"own.png", "generated-5.png", "edited-5.png"}


def test_options_reach_the_pipeline(pipe: StubPipeline) -> None:
    options = ["--width", "96", "--height", "32", "--steps", "2", "--guidance", "1.5"]
    more = ["--negative-prompt", "", "--padding", "none", "--seed", "3"]
    assert main(["generate", "a cat", *options, *more]) == 0
    call = pipe.calls[0]
    assert (call["width"], call["height"]) == (96, 32)
    assert (call["num_inference_steps"], call["guidance_scale"]) == (2, 1.5)
    assert (call["negative_prompt"], call["padding"], call["seed"]) == ("", "none", 3)


def test_settings_of_the_sampler_reach_the_pipeline_and_the_record_only_if_given(
    pipe: StubPipeline, capsys: Captured
) -> None:
    words = ["--solver", "ab2", "--guidance-interval", "0.2", "0.9", "--guidance-rescale", "0.5"]
    given = {"solver": "ab2", "guidance_interval": (0.2, 0.9), "guidance_rescale": 0.5}
    assert main(["generate", "a cat", "--seed", "1", "-o", "a.png", "--json", *words]) == 0
    same = ["--solver", "euler", "--guidance-interval", "0", "1", "--guidance-rescale", "0"]
    assert main(["generate", "a cat", "--seed", "1", "-o", "b.png", "--json", *same]) == 0
    assert given.items() <= pipe.calls[0].items()
    assert not given.keys() & pipe.calls[1].keys()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert {name: first[name] for name in given} == {**given, "guidance_interval": [0.2, 0.9]}
    assert not given.keys() & second.keys()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--guidance-interval 0.9 0.2", "--guidance-interval must be two noise levels LOW <= HIGH"),
        ("--guidance-interval 0.5 nan", "--guidance-interval must be two noise levels LOW <= HIGH"),
        ("--guidance-interval -1 0.5", "--guidance-interval must be two noise levels"),
        ("--guidance-rescale 2", "--guidance-rescale must be a number from 0 to 1"),
        ("--solver heun", "--solver: found 'heun', expected euler or ab2"),
    ],
)
def test_settings_of_the_sampler_that_cannot_be_used_are_one_line(
    pipe: StubPipeline, capsys: Captured, words: str, complaint: str
) -> None:
    assert main(["generate", "a cat", *words.split()]) == 2
    assert complaint in capsys.readouterr().err
    assert pipe.calls == []


def test_several_images_count_seeds_and_names_up(
    pipe: StubPipeline, capsys: Captured, tmp_path: Path
) -> None:
    assert main(["generate", "a", "--num-images", "3", "--seed", "9", "--output", "x.webp"]) == 0
    assert capsys.readouterr().out.split() == ["x-1.webp", "x-2.webp", "x-3.webp"]
    assert [call["seed"] for call in pipe.calls] == [9, 10, 11]
    assert main(["generate", "a", "--num-images", "2", "--seed", "9", "--output", "{i}b.png"]) == 0
    assert {"1b.png", "2b.png"} <= files(tmp_path)


def test_a_file_has_one_prompt_a_line(pipe: StubPipeline, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffa cat\n\n 一只狗 \n", encoding="utf-8")
    assert main(["generate", "@prompts.txt", "--num-images", "2", "--seed", "0"]) == 0
    assert [call["prompt"] for call in pipe.calls] == ["a cat", "a cat", "一只狗", "一只狗"]
    assert [call["seed"] for call in pipe.calls] == [0, 1, 2, 3]


def test_a_dash_reads_standard_input(pipe: StubPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert main(["generate", "-"]) == 0
    assert pipe.calls[0]["prompt"] == "from a pipe"


def test_references_arrive_upright_and_in_order(
    pipe: StubPipeline, image: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert main(["edit", "merge", "own.png", "turned.jpg"]) == 0
    assert [each.size for each in pipe.calls[0]["image"]] == [(48, 80), (20, 30)]


def test_a_warning_is_one_line_on_standard_error(
    pipe: StubPipeline, capsys: Captured, tmp_path: Path
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert main(["edit", "green", "a.gif", "--seed", "1"]) == 0
    assert capsys.readouterr().err == "warning: a.gif is animated; its first frame is used\n"


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (RuntimeError("no\nluck"), 1, "error: RuntimeError: no luck; --debug shows where"),
        (OSError("disk full"), 1, "error: OSError: disk full; --debug shows where"),
        (ValueError("too long"), 2, "error: too long"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    pipe: StubPipeline,
    capsys: Captured,
    tmp_path: Path,
    failure: BaseException,
    code: int,
    line: str,
) -> None:
    pipe.failure = failure
    assert main(["generate", "a cat", "--output", "a.png", "--seed", "1"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line + "\n")
    assert files(tmp_path) == set()


def test_debug_shows_where(pipe: StubPipeline, capsys: Captured) -> None:
    pipe.failure = RuntimeError("no luck")
    assert main(["generate", "a cat", "--debug"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("\nerror: RuntimeError: no luck\n")


def test_finished_images_survive_an_interruption(pipe: StubPipeline, tmp_path: Path) -> None:
    def interrupt_the_second(*_: object) -> None:
        pipe.failure = KeyboardInterrupt() if len(pipe.calls) == 1 else None

    original = StubPipeline.__call__

    class Interrupted(StubPipeline):
        def __call__(self, prompt: str, image: object = None, **arguments: object) -> object:
            result = original(self, prompt, image, **arguments)
            interrupt_the_second()
            return result

    pipe.__class__ = Interrupted
    assert main(["generate", "a", "--num-images", "3", "--output", "a.png"]) == 130
    assert files(tmp_path) == {"a-1.png"}


def test_the_short_name_of_output_makes_its_folders(pipe: StubPipeline, capsys: Captured) -> None:
    assert main(["generate", "a", "--seed", "1", "-o", "new/cat.png"]) == 0
    assert capsys.readouterr().out == "new/cat.png\n"


class Streams:
    """Standard input and output with their binary sides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, given: bytes = b"") -> None:
        self.out = io.BytesIO()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(self.out, write_through=True))


def test_a_dash_writes_the_image_to_standard_output(
    pipe: StubPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    streams = Streams(monkeypatch)
    assert main(["generate", "a", "--seed", "1", "-o", "-"]) == 0
    with Image.open(io.BytesIO(streams.out.getvalue())) as image:
        assert image.size == (64, 64)
        assert json.loads(image.info["deepgen"])["seed"] == 1
    assert files(tmp_path) == set()


def test_several_processes_of_ray_write_the_files_of_one(
    pipe: StubPipeline, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", stub_ray([]))
    command = ["generate", "a cat", "--num-images", "3", "--seed", "5", "-o"]
    assert main([*command, "one/{i}.png"]) == 0
    assert main([*command, "two/{i}.png", "--ray", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("two/3.png")
    # Paths of processes that have another working folder.
    assert absolute(ImageOptions(gguf=(Path("a.gguf"),))).gguf == (Path("a.gguf").absolute(),)
    assert absolute(ImageOptions(lora=("one/1.png:0.5",))).lora == (
        f"{Path('one/1.png').absolute()}:0.5",
    )
    for name in ("1.png", "2.png", "3.png"):
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes()
    assert main([*command, "three.png", "--ray", "0"]) == 2
    assert "--ray must be at least 1" in capsys.readouterr().err


def test_what_fails_in_a_process_of_ray_is_the_line_and_exit_code_of_one_process(
    pipe: StubPipeline, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", stub_ray([]))
    command = ["generate", "a cat", "--num-images", "2", "-o", "{i}.png", "--ray", "2"]
    for failure, code in ((CheckpointError("x: damaged"), 2), (RuntimeError("no"), 1)):
        pipe.failure = failure
        assert main(command) == code
        assert f"{failure}" in capsys.readouterr().err.splitlines()[-1]
    # One that cannot be pickled.
    pipe.failure = type("Own", (Exception,), {})("here")
    assert main(command) == 1
    assert "Own: here" in capsys.readouterr().err.splitlines()[-1]
    # A process that was killed.
    monkeypatch.setitem(sys.modules, "ray", stub_ray([], RayError("the actor died\n  at 1")))
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: Ray: RayError: the actor died"


def test_an_image_file_is_asked_what_it_says(
    pipe: StubPipeline, image: Path, capsys: Captured, tmp_path: Path
) -> None:
    made = str(tmp_path / "made.webp")
    assert main(["edit", "make it blue", str(image), "--seed", "5", "-o", made]) == 0
    assert main(["info", made, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["record"]["seed"], found["c2pa"]) == (5, None)
    assert found["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert main(["info", made]) == 0
    assert "composite with content made by a trained model" in capsys.readouterr().out
    assert main(["info", str(image)]) == 0
    assert "how it was made: not stored" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "absent.png")]) == 2
    assert "no image at" in capsys.readouterr().err


def test_a_dash_reads_an_image_from_standard_input(
    pipe: StubPipeline, monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
    Streams(monkeypatch, image.read_bytes())
    assert main(["edit", "redder", "-", "--seed", "1"]) == 0
    assert [each.size for each in pipe.calls[0]["image"]] == [(48, 80)]


def test_standard_input_is_read_once(pipe: StubPipeline, capsys: Captured) -> None:
    assert main(["edit", "-", "-"]) == 2
    assert "only once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["make", "it", "green", "own.png"], 'needs quotes: deepgen edit "make it green" own.png'),
        (["make", "it", "green"], 'needs quotes: deepgen edit "make it green" IMAGE'),
        (
            ["own.png", "make it green"],
            'instruction comes first: deepgen edit "make it green" own.png',
        ),
        (["own.png", "redder"], 'instruction comes first: deepgen edit "redder" own.png'),
        (["own.png", "make", "it", "green"], 'comes first: deepgen edit "make it green" own.png'),
        (["redder", "absent.png"], "no image at absent.png"),
        (["redder", "https://example.org/a.png"], "https://example.org/a.png is an address"),
    ],
)
def test_arguments_of_an_edit_in_disorder_are_recognised(
    pipe: StubPipeline, capsys: Captured, image: Path, arguments: list[str], line: str
) -> None:
    assert main(["edit", *arguments]) == 2
    assert line in capsys.readouterr().err


def test_a_prompt_about_nothing_that_the_embedded_model_knows_is_noted(
    pipe: StubPipeline, capsys: Captured
) -> None:
    assert main(["generate", "an astronaut", "--seed", "1"]) == 0
    assert "note: 'an astronaut': the embedded model was taught" in capsys.readouterr().err
    assert main(["generate", "an astronaut", "--seed", "2", "--model", "other"]) == 0
    assert main(["generate", "a cat", "--seed", "3"]) == 0
    assert "note" not in capsys.readouterr().err


def test_an_edit_that_changed_nothing_is_said(
    pipe: StubPipeline, capsys: Captured, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), (1, 100, 200)).save(tmp_path / "same.png")
    assert main(["edit", "make it green", "same.png", "--seed", "1"]) == 0
    assert "note: edited-1.png hardly differs from same.png" in capsys.readouterr().err
    assert main(["edit", "make it green", "same.png", "--seed", "99"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_progress_counts_all_images_and_says_the_time_left(capsys: Captured) -> None:
    now = [0.0]
    lines = ProgressLines("image 1 of 2", 4, counted=False, clock=lambda: now[0])
    for _ in range(4):
        now[0] += 20
        lines.advance()
    err = capsys.readouterr().err.splitlines()
    assert err == [f"image 1 of 2, {left} left" for left in ("1 min 0 s", "40 s", "20 s")]
    slow_start = ProgressLines("", 8, counted=False, clock=lambda: now[0])
    for seconds in (30.0, 30.0, 2.0, 2.0, 2.0, 30.0):
        now[0] += seconds
        slow_start.advance()
    # The later half of six steps: 34 s for three, and two are left.
    assert capsys.readouterr().err.splitlines()[-1] == ", 23 s left"
    counted = ProgressLines("importing", None, clock=lambda: now[0])
    now[0] += 20
    counted.advance()
    assert capsys.readouterr().err == "importing: 1\n"
    assert duration(7500.0) == "2 h 5 min"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_something_before_anything_is_imported(
    pipe: StubPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    assert main(["generate", ""]) == 2
    first, gone, rest = shown.getvalue().split("\r", 2)
    assert (first, gone.strip()) == ("generate ...", "")
    assert rest.startswith("error: the prompt is empty")


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["--version"],
        ["generate", "a", "--num-images", "3", "-o", "a.png", "--overwrite"],
        ["info", "--json"],
        ["eval", "list"],
    ],
)
def test_a_closed_pipe_ends_quietly(
    pipe: StubPipeline, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("sys.stdout", ClosedPipe())
    assert main(arguments) == 141
    assert "error" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout", None)
    assert main(arguments) == 141
    assert len(pipe.calls) <= 1 + ("generate" in arguments)


def test_a_closed_standard_error_stops_nothing(
    pipe: StubPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stderr", ClosedPipe())
    assert main(["generate", "a", "-o", "a.png"]) == 0
    assert files(tmp_path) == {"a.png"}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_asks_for_the_end_leaves_nothing_half_written(
    pipe: StubPipeline, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def interrupted(path: Path, data: bytes) -> int:
        path.touch()
        signal.raise_signal(getattr(signal, name))
        return 0

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    number = getattr(signal, name)
    # As in a terminal: a command that nohup started ignores SIGHUP.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["generate", "a cat", "-o", "a.png", "--seed", "1"]) == 143
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "error: terminated\n"
    assert files(tmp_path) == set()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_adapter_is_loaded_with_its_scale(tmp_path: Path) -> None:
    from deepgen.cli.options import ImageOptions

    (tmp_path / "a:0.5").mkdir()
    whole, scaled = str(tmp_path / "a:0.5"), f"{tmp_path}/a:0.5:0.25"
    adapters = ImageOptions(lora=(whole, scaled)).adapters()
    assert [(each.path.name, each.scale) for each in adapters] == [("a:0.5", 1.0), ("a:0.5", 0.25)]
