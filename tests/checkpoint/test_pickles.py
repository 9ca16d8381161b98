"""Hostile and damaged files in place of a native checkpoint; none may run, hang or grow."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deepgen.checkpoint.pickles import check_archive, check_no_shards, unpack
from deepgen.checkpoint.unpickling import main
from deepgen.errors import CheckpointError

GOOD = {"transformer.proj_out.weight": torch.ones(2, 3), "meta_queries": torch.zeros(4, 2)}


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def saved(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def repacked(change: Callable[[zipfile.ZipFile, zipfile.ZipFile], None]) -> bytes:
    """A good archive, changed while it is copied."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(GOOD))) as old, zipfile.ZipFile(buffer, "w") as new:
        change(old, new)
    return buffer.getvalue()


def with_pickle(content: bytes) -> bytes:
    def change(old: zipfile.ZipFile, new: zipfile.ZipFile) -> None:
        for entry in old.infolist():
            own = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, content if own else old.read(entry))

    return repacked(change)


def compressed(old: zipfile.ZipFile, new: zipfile.ZipFile) -> None:
    for entry in old.infolist():
        new.writestr(entry.filename, old.read(entry) + bytes(10**6), zipfile.ZIP_DEFLATED)


def nameless(old: zipfile.ZipFile, new: zipfile.ZipFile) -> None:
    for entry in old.infolist():
        if not entry.filename.endswith("data.pkl"):
            new.writestr(entry.filename, old.read(entry))


def doubled(old: zipfile.ZipFile, new: zipfile.ZipFile) -> None:
    for entry in old.infolist():
        new.writestr(entry.filename, old.read(entry))
    new.writestr("other/data.pkl", b"\x80\x02}.")


SEEN_FROM_OUTSIDE = {
    "no archive": (b"\x80\x02}q\x00.", "not an archive of torch.save"),
    "old format": (pickle.dumps(OrderedDict()), "not an archive of torch.save"),
    "empty": (b"", "not an archive of torch.save"),
    "text": (b"<html>404</html>" * 100, "not an archive of torch.save"),
    "truncated": (saved(GOOD)[:-100], "not an archive|truncated or damaged"),
    "compressed": (repacked(compressed), "compressed"),
    "no names": (repacked(nameless), "no data.pkl"),
    "two of them": (repacked(doubled), "no data.pkl"),
    "damaged names": (with_pickle(b"\x80\x02}q\x00(X\xff\xff\xff\x7f"), "data.pkl is damaged"),
    "os.system": (with_pickle(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."), "'os system'"),
    "builtins": (with_pickle(b"\x80\x02cbuiltins\neval\n."), "'builtins eval'"),
    "stack global": (
        with_pickle(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."),
        "opcode SHORT_BINUNICODE",
    ),
    "instance": (with_pickle(b"(ios\nsystem\n."), "opcode INST"),
    "torch function": (with_pickle(b"\x80\x02ctorch\nload\n."), "'torch load'"),
    "huge names": (with_pickle(b"\x80\x02" + bytes(5 << 20)), "bytes of names"),
}


@pytest.mark.parametrize("kind", SEEN_FROM_OUTSIDE)
def test_a_file_that_is_no_archive_of_tensors_is_never_opened(kind: str, tmp_path: Path) -> None:
    content, message = SEEN_FROM_OUTSIDE[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_archive(path)
    assert "\n" not in str(caught.value)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    path, canary = tmp_path / "model.pt", tmp_path / "ran"
    path.write_bytes(saved({**GOOD, "meta_queries": Canary(canary)}))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        check_archive(path)
    # Nor where nothing was checked before.
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the canary would not have sung"


def test_python_files_beside_a_checkpoint_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt").write_bytes(saved(GOOD))
    (tmp_path / "torch.py").write_text("import pathlib; pathlib.Path('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    unpack(Path("model.pt"), Path("out"))
    assert Path("out/connector/model.safetensors").is_file()
    assert not Path("ran").exists()


def test_a_file_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved(GOOD))
    monkeypatch.setattr("deepgen.checkpoint.pickles.time_limit", lambda _: 0)
    with pytest.raises(CheckpointError, match="is not read within 0 seconds"):
        unpack(path, tmp_path / "out")


WRONG_TENSORS = {
    "whole numbers": ({**GOOD, "meta_queries": torch.ones(2, dtype=torch.long)}, "whole tensors"),
    "double": ({**GOOD, "meta_queries": torch.ones(2, dtype=torch.float64)}, "whole tensors"),
    # One value, seen as a trillion.
    "expanded": ({**GOOD, "meta_queries": torch.ones(1).expand(10**6, 10**6)}, "whole tensors"),
    "transposed": ({**GOOD, "meta_queries": torch.ones(3, 2).T}, "whole tensors"),
    "a number": ({**GOOD, "step": 5}, "'step'"),
    "unknown part": ({**GOOD, "decoder.weight": torch.ones(2)}, "belongs to no part of DeepGen"),
    "twice": ({**GOOD, "module.meta_queries": torch.ones(2)}, "twice"),
    "a list": ([torch.ones(2)], "expected a dictionary of tensors"),
    "nothing": ({}, "expected a dictionary of tensors"),
}


@pytest.mark.parametrize("kind", WRONG_TENSORS)
def test_tensors_that_cannot_be_weights_are_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, message = WRONG_TENSORS[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(saved(state))
    with pytest.raises(CheckpointError, match=message) as caught:
        check_archive(path)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(saved({**GOOD, "meta_queries": torch.full((2,), torch.nan)}))
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert "not finite: 'meta_queries'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tensors_that_share_memory_are_each_stored(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(3, 2)
    flat = torch.arange(4.0)
    state = {
        "lmm.lm_head.weight": table,
        "lmm.model.embed_tokens.weight": table,
        "projector_1.bias": flat[:2],
        "projector_2.bias": flat[2:],
    }
    path = tmp_path / "model.pt"
    path.write_bytes(saved(state))
    assert check_archive(path).parts["vlm"].keys() == {
        "lm_head.weight",
        "model.embed_tokens.weight",
    }
    assert main([str(path), str(tmp_path / "out")]) == 0
    vlm = load_file(tmp_path / "out/vlm/model.safetensors")
    assert vlm.keys() == {"lm_head.weight", "model.embed_tokens.weight"}
    assert all(torch.equal(each, table) for each in vlm.values())
    bridge = load_file(tmp_path / "out/connector/model.safetensors")
    assert bridge["projector_2.bias"].tolist() == [2, 3]


def test_what_a_trainer_saves_beside_the_model_is_counted_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    path.write_bytes(saved({"state_dict": GOOD, "optimizer": optimizer.state_dict(), "epoch": 3}))
    assert check_archive(path).left_out == {"optimizer": 6}
    # Pairs of pairs of pairs: what occurs 2^60 times is one tensor.
    pairs: Any = torch.ones(2)
    for _ in range(60):
        pairs = (pairs, pairs)
    path.write_bytes(saved({"state_dict": GOOD, "pairs": pairs}))
    assert check_archive(path).left_out == {"pairs": 1}
    path.write_bytes(saved({"state_dict": GOOD, "projector_1.bias": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"1 tensors beside.*'projector_1\.bias'"):
        check_archive(path)


@pytest.mark.parametrize("container", ["state_dict", "module"])
def test_tensors_are_found_in_a_trainers_dictionary_and_without_wrappers(
    container: str, tmp_path: Path
) -> None:
    wrapped = {f"module._orig_mod.{key}": value for key, value in GOOD.items()}
    path = tmp_path / "model.pt"
    path.write_bytes(saved({container: wrapped, "epoch": 3}))
    outline = check_archive(path)
    assert outline.left_out == {}
    assert {part: [*named] for part, named in outline.parts.items()} == {
        "transformer": ["proj_out.weight"],
        "connector": ["meta_queries"],
    }
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/transformer/diffusion_pytorch_model.safetensors").is_file()
    assert (tmp_path / "out/connector/model.safetensors").is_file()


def test_shards_of_deepspeed_are_named_with_what_puts_them_together(tmp_path: Path) -> None:
    step = tmp_path / "global_step100"
    step.mkdir()
    (step / "mp_rank_00_model_states.pt").touch()
    # The script lies beside the steps, whichever of the two folders is named.
    command = re.escape(f"python {tmp_path}/zero_to_fp32.py {tmp_path} OUT")
    for folder in (tmp_path, step):
        with pytest.raises(CheckpointError, match=command):
            check_no_shards(folder)
    check_no_shards(tmp_path / "elsewhere")
