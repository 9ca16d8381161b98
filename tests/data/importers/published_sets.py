"""Small copies of published data sets, in the form and with the traps that they have."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Files = Mapping[str, Any]


def jpeg(number: int, size: tuple[int, int] = (96, 96)) -> bytes:
    """A small image, another for every number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(content, "JPEG")
    return content.getvalue()


def tar(path: Path, files: Files, *, compressed: bool = False) -> Path:
    """A tar of some files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, data in files.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.getvalue()) if compressed else content.getvalue())
    return path


def lines(path: Path, rows: Sequence[Any]) -> None:
    """Rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def array(path: Path, rows: Sequence[Any]) -> None:
    """Rows as one JSON array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def loose(root: Path, names: Sequence[str]) -> None:
    """Images as single files."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(1000 + number))


def text_to_image_2m(root: Path) -> None:
    """Two resolutions; one image without a caption, one caption without an image."""
    files: dict[str, bytes | str] = {}
    for n in range(2):
        files |= {f"{n:07d}.jpg": jpeg(n), f"{n:07d}.json": json.dumps({"prompt": f"caption {n}"})}
    files |= {"0000002.jpg": jpeg(2), "0000003.json": json.dumps({"prompt": "no image"})}
    tar(root / "data_512_2M" / "data_000000.tar", files)
    large = {"0000000.jpg": jpeg(5, (128, 96)), "0000000.json": json.dumps({"prompt": "large"})}
    tar(root / "data_1024_10K" / "data_000000.tar", large)


def laion_aesthetic(root: Path) -> None:
    """What img2dataset leaves, with a dead address in the table beside the tar."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"re_caption": "a long caption", "url": "https://example.org/1.jpg", "status": "success"}
    files = {"000000000.jpg": jpeg(1), "000000000.json": json.dumps(row)}
    tar(root / "00000.tar", files)
    table = [
        {"key": "000000000", "url": "https://example.org/1.jpg", "status": "success"},
        {"key": "000000001", "url": "https://example.org/2.jpg", "status": "failed_to_download"},
    ]
    pq.write_table(pa.Table.from_pylist(table), root / "00000.parquet")


def megalith(root: Path) -> None:
    """Captions and images apart, joined by path; one image was never downloaded."""
    texts = {"caption_internlm2_short": "short", "caption_florence2": "long"}
    captions = {f"0/{n:05d}.json": json.dumps(texts) for n in range(2)}
    tar(root / "captions" / "00000.tar", captions)
    tar(root / "images" / "00000.tar", {"0/00000.jpg": jpeg(1)})


def redcaps(root: Path) -> None:
    """Images with JSON, and the index that repeats it all."""
    files = {"a/0.jpg": jpeg(1), "a/0.json": json.dumps({"caption": "a cat", "subreddit": "cats"})}
    tar(root / "raw" / "0.tar", files)
    array(root / "redcaps5m_data.json", [{"image": "a/0.jpg", "annotation": "a/0.json"}])


def cc12m(root: Path) -> None:
    """Captions that are joined to images."""
    caption = json.dumps({"caption": "a dog"})
    tar(root / "captions" / "0.tar", {"00/1.json": caption, "00/2.json": caption})
    tar(root / "images" / "0.tar", {"00/1.jpg": jpeg(1)})


def blip3o_60k(root: Path) -> None:
    """One prompt with a template of GenEval."""
    files = {"0.jpg": jpeg(0), "0.txt": "a photo of two dogs", "1.jpg": jpeg(1), "1.txt": "a lamp"}
    tar(root / "part.tar", files)


def sharegpt4o_image(root: Path) -> None:
    """Tables with relative paths whose images are in tars."""
    row = {"input_prompt": "a red fox", "output_image": "text_to_image/1.png"}
    array(root / "text_to_image.json", [row])
    tar(root / "text_to_image_part_0.tar", {"text_to_image/1.png": jpeg(1)})
    edit = {
        "input_prompt": "make it blue",
        "input_image": ["edit/in.png"],
        "output_image": "edit/o.png",
    }
    array(root / "text_and_image_to_image.json", [edit, {**edit, "output_image": "edit/gone.png"}])
    images = {"edit/in.png": jpeg(2), "edit/o.png": jpeg(3)}
    tar(root / "text_and_image_to_image_part_0.tar", images)


def echo4o_image(root: Path) -> None:
    """Paths that look absolute, gzip tars, one of which is plain whatever its name says."""
    base = root / "Instruction-Following-Image"
    path = "/Echo-4o-Image/Instruction-Following-Image/images/0/a.jpg"
    row = {"instruction": "four apples", "output_image": path}
    lines(base / "Instruction-Following-Image.jsonl", [row])
    tar(base / "images" / "0.tar.gz", {"0/a.jpg": jpeg(1)}, compressed=True)
    base = root / "Surrel-Fantasy-Image"
    lines(base / "conflict.jsonl", [{"instruction": "a fish", "output_image": "/images/0/b.jpg"}])
    tar(base / "images" / "0.tar.gz", {"0/b.jpg": jpeg(2)})


def opengpt4o_image(root: Path) -> None:
    """An archive in parts; one table an array, the other JSON Lines, both called .json."""
    rows = [{"input_prompt": f"prompt {n}", "output_image": f"gen/{n}.png"} for n in range(2)]
    array(root / "gen.json", rows)
    whole = tar(root / "w", {f"gen/{n}.png": jpeg(n) for n in range(2)}, compressed=True)
    content = whole.read_bytes()
    whole.unlink()
    for part in range(3):
        third = len(content) // 3 + 1
        name = f"gen.tar.gz.{part:02d}"
        (root / name).write_bytes(content[part * third : (part + 1) * third])
    edit = {
        "input_prompt": "add a hat",
        "input_image": ["editing/i.png"],
        "output_image": "editing/o.png",
    }
    lines(root / "editing.json", [edit])
    images = {"editing/i.png": jpeg(7), "editing/o.png": jpeg(8)}
    tar(root / "editing.tar.gz.00", images, compressed=True)


def nhr_edit(root: Path) -> None:
    """Loose files and further wordings."""
    loose(root / "train", ["images/00/a_original.jpg", "images/00/a_edited_0.jpg"])
    row = {
        "sample_id": "a", "source_file_name": "images/00/a_original.jpg",
        "edited_file_name": "images/00/a_edited_0.jpg", "edit_instruction": "Add snow.",
        "augmented_instructions": ["Let it snow.", "Cover it in snow."], "category": "weather",
    }  # fmt: skip
    lines(root / "train" / "metadata.jsonl", [row])


def gpt_image_edit(root: Path) -> None:
    """Original and regenerated outputs side by side; only the metadata says which is meant."""
    task = root / "gpt-edit" / "omniedit" / "color"
    loose(task, ["input/1.png", "output/1.png", "output/1_old.png"])
    row = {
        "id": "1", "task": "color", "dataset_source": "omniedit", "input": "input/1.png",
        "output": "output/1.png", "instruction": "Make the man's hat red.",
        "instruction_type": "rewrite", "instruction_original": "red hat",
    }  # fmt: skip
    array(task / "metadata" / "1.json", [row, {**row, "id": "2", "instruction_type": "poem"}])


def nano_consistent(root: Path) -> None:
    """Prefixed paths, and an empty instruction."""
    loose(root, ["images/s.jpg", "images/t.jpg"])
    row = {
        "instruction": "turn left", "input_images": ["Nano-150k/images/s.jpg"],
        "output_image": "Nano-150k/images/t.jpg",
    }  # fmt: skip
    lines(root / "json" / "pose_cleaned.jsonl", [row, {**row, "instruction": ""}])


def pico_banana(root: Path) -> None:
    """Addresses of sources, mapped or null, and turns."""
    names = ["77_o.jpg", "openimage/88.jpg", "images/positive-edit/1.png"]
    loose(root, [*names, "images/multi-turn/1_1.png", "images/multi-turn/1_2.png"])
    row = {
        "open_image_input_url": "https://farm1.staticflickr.com/5/77_o.jpg",
        "output_image": "images/positive-edit/1.png", "text": "Make the sky purple, please.",
        "summarized_text": "purple sky", "edit_type": "color",
    }  # fmt: skip
    rows = [
        {**row, "local_input_image": None},
        {**row, "local_input_image": "openimage/88.jpg"},
        {**row, "open_image_input_url": "https://farm1.staticflickr.com/5/never_fetched.jpg"},
    ]
    lines(root / "sft.jsonl", rows)
    files = [
        {"id": "edit_turn1", "url": "images/multi-turn/1_1.png"},
        {"id": "final_image", "url": "images/multi-turn/1_2.png"},
        {"id": "original_input_image", "url": "https://farm1.staticflickr.com/5/77_o.jpg"},
    ]
    turns = {"files": files, "metadata_edit_turn_prompts": ["add a dog", "add a cat"]}
    lines(root / "multi-turn.jsonl", [turns])


def x2i2(root: Path) -> None:
    """Several references, and an instruction that refers to them."""
    loose(
        root, ["images/video_icgen/a.jpg", "images/video_icgen/b.jpg", "images/video_icgen/o.jpg"]
    )
    row = {
        "instruction": "Put <img><|image_1|></img> beside <img><|image_2|></img>.",
        "input_images": ["images/video_icgen/a.jpg", "images/video_icgen/b.jpg"],
        "output_image": "images/video_icgen/o.jpg",
    }  # fmt: skip
    lines(root / "jsons" / "video_icgen" / "video_icgen.jsonl", [row])


def uniworld(root: Path) -> None:
    """Conversations; the last image is the target. Perception pairs beside them."""
    loose(root, ["imgs/s.jpg", "imgs/t.jpg"])
    talk = [
        {"from": "human", "value": "<image>\nMake it rain."},
        {"from": "gpt", "value": "<image>"},
    ]
    row = {"image": ["imgs/s.jpg", "imgs/t.jpg"], "conversations": talk}
    array(root / "imgedit.json", [row, {**row, "image": ["imgs/t.jpg"]}])
    array(root / "blip3o_canny_data.json", [row])


def unireason(root: Path) -> None:
    """Two spellings of one field, and another kind of data among them."""
    loose(root, ["images/1.png", "images/2.png", "images/3.png"])
    rows: list[dict[str, Any]] = [
        {"txt": "the month after May", "Reasoning": "It is June.", "image_path": "images/1.png"},
        {"prompt": "x", "img_path": "images/1.png", "Text Reasoning Trace": "y"},
    ]
    array(root / "t2i.json", rows)
    edit = {
        "instruction": "ripen it", "reasoning": "It turns yellow.", "input_image": "images/2.png",
        "output_image": "images/3.png",
    }  # fmt: skip
    lines(root / "edit.json", [edit, {**edit, "input_image": ["images/2.png"]}])
