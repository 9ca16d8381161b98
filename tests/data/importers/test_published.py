from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from deepgen.data.dataset import DataSet
from deepgen.data.importers.archives import find_archives, members
from deepgen.data.importers.blip3o_60k import GENEVAL
from deepgen.data.importers.member_index import Images
from deepgen.data.importers.registry import IMPORTERS, open_source
from deepgen.data.importers.source import BadRow, SourceOptions, Span
from deepgen.data.importers.uniworld import is_perception
from deepgen.data.importing import ImportOptions, ImportReport, import_source
from deepgen.data.records import Record
from deepgen.errors import DataError
from tests.data.importers import published_sets as sets
from tests.data.sets import content, quarantine

OWN = ("folder", "table", "webdataset", "exported")


def run(
    name: str, source: Path, folder: Path, val_fraction: float = 0.0, **options: Any
) -> tuple[ImportReport, list[str]]:
    """Import a source; also what was said about it."""
    said: list[str] = []
    chosen = SourceOptions(scratch=folder / "scratch", **options)
    opened = open_source(name, source, chosen)
    wanted = ImportOptions(
        name=name,
        licence=opened.licence,
        redistributable=opened.redistributable,
        val_fraction=val_fraction,
        min_side=64,
    )
    report = import_source(opened, folder, wanted, workers=1, say=said.append)
    return report, said


def records(folder: Path) -> dict[str, Record]:
    data = DataSet.open(folder)
    found = [data.record(row) for row in range(len(data))]
    return {each.sample_id.partition("/")[2]: each for each in found}


# Samples by id: number of references, and texts; and the reasons of all other rows.
EXPECTED: dict[str, tuple[dict[str, tuple[int, list[str]]], dict[str, str]]] = {
    "text_to_image_2m": (
        {
            "data_512_2M/data_000000/0000000": (0, ["caption 0"]),
            "data_512_2M/data_000000/0000001": (0, ["caption 1"]),
            "data_1024_10K/data_000000/0000000": (0, ["large"]),
        },
        {
            "data_512_2M/data_000000/0000002": "empty_prompt",
            "data_512_2M/data_000000/0000003": "missing",
        },
    ),
    "laion_aesthetic": (
        {"00000/000000000": (0, ["a long caption"])},
        {"00000/000000001": "dead_url"},
    ),
    "megalith": (
        {"captions/00000/0/00000": (0, ["short", "long"])},
        {"captions/00000/0/00001": "missing"},
    ),
    "redcaps": ({"raw/0/a/0": (0, ["a cat"])}, {}),
    "cc12m": ({"captions/0/00/1": (0, ["a dog"])}, {"captions/0/00/2": "missing"}),
    "blip3o_60k": (
        {"part/0": (0, ["a photo of two dogs"]), "part/1": (0, ["a lamp"])},
        {},
    ),
    "sharegpt4o_image": (
        {
            "text_to_image/000000": (0, ["a red fox"]),
            "text_and_image_to_image/000000": (1, ["make it blue"]),
        },
        {"text_and_image_to_image/000001": "missing"},
    ),
    "echo4o_image": (
        {
            "Instruction-Following-Image/Instruction-Following-Image/000000": (0, ["four apples"]),
            "Surrel-Fantasy-Image/conflict/000000": (0, ["a fish"]),
        },
        {},
    ),
    "opengpt4o_image": (
        {
            "gen/000000": (0, ["prompt 0"]),
            "gen/000001": (0, ["prompt 1"]),
            "editing/000000": (1, ["add a hat"]),
        },
        {},
    ),
    "nhr_edit": (
        {"train/metadata/000000": (1, ["Add snow.", "Let it snow.", "Cover it in snow."])},
        {},
    ),
    "gpt_image_edit": (
        {"gpt-edit/omniedit/color/metadata/1/1/rewrite": (1, ["Make the man's hat red."])},
        {"gpt-edit/omniedit/color/metadata/1/000001": "kind"},
    ),
    "nano_consistent": (
        {"json/pose_cleaned/000000": (1, ["turn left"])},
        {"json/pose_cleaned/000001": "empty_prompt"},
    ),
    "pico_banana": (
        {
            "sft/000000": (1, ["Make the sky purple, please.", "purple sky"]),
            "sft/000001": (1, ["Make the sky purple, please.", "purple sky"]),
            "multi-turn/000000.1": (1, ["add a dog"]),
            "multi-turn/000000.2": (1, ["add a cat"]),
        },
        {"sft/000002": "missing"},
    ),
    "x2i2": (
        {"jsons/video_icgen/video_icgen/000000": (2, ["Put image 1 beside image 2."])},
        {},
    ),
    "uniworld": (
        {"imgedit/000000": (1, ["Make it rain."])},
        {"imgedit/000001": "missing", "blip3o_canny_data/000000": "excluded"},
    ),
    "unireason": (
        {
            "t2i/000000": (0, ["the month after May"]),
            "edit/000000": (1, ["ripen it"]),
            "edit/000001": (1, ["ripen it"]),
        },
        {"t2i/000001": "excluded"},
    ),
}


@pytest.mark.parametrize("name", sorted(set(IMPORTERS) - set(OWN)))
def test_every_row_of_a_published_set_is_a_sample_or_has_a_reason(
    tmp_path: Path, name: str
) -> None:
    make: Callable[[Path], None] = getattr(sets, name)
    (tmp_path / "source").mkdir()
    make(tmp_path / "source")
    report, said = run(name, tmp_path / "source", tmp_path / "data")
    samples, faults = EXPECTED[name]
    found = records(tmp_path / "data")
    assert {
        key: (len(each.references), [text.text for text in each.prompts])
        for key, each in found.items()
    } == samples
    rejected = {
        key.removeprefix(f"{name}/"): reason
        for key, reason in quarantine(tmp_path / "data").items()
    }
    assert rejected == faults
    assert report.rows == len(samples) + len(faults)
    assert ("unverified" in IMPORTERS[name]) == ("unverified" in said[0])
    assert not (tmp_path / "data" / "scratch").exists()


def made(tmp_path: Path, name: str) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    getattr(sets, name)(source)
    return source


def test_what_else_a_row_states_is_kept(tmp_path: Path) -> None:
    for name in ("unireason", "gpt_image_edit", "blip3o_60k", "nhr_edit", "pico_banana"):
        (tmp_path / name).mkdir()
        getattr(sets, name)(tmp_path / name)
        run(name, tmp_path / name, tmp_path / f"{name}_data")
    reasoned = records(tmp_path / "unireason_data")
    assert reasoned["t2i/000000"].reasoning == "It is June."
    assert reasoned["edit/000000"].reasoning == "It turns yellow."
    (edit,) = records(tmp_path / "gpt_image_edit_data").values()
    assert edit.prompts[0].kind == "instruction_rewritten"
    assert edit.skills == ["general", "face", "color", "omniedit"]
    assert (edit.licence, edit.redistributable) == ("CC-BY-4.0", True)
    tagged = records(tmp_path / "blip3o_60k_data")
    assert [each.skills for each in tagged.values()] == [["general", "geneval_like"], ["general"]]
    (snow,) = records(tmp_path / "nhr_edit_data").values()
    assert [each.kind for each in snow.prompts][1:] == ["instruction_rewritten"] * 2
    pico = records(tmp_path / "pico_banana_data")
    assert not pico["sft/000000"].redistributable
    assert pico["sft/000000"].references[0].hash != pico["sft/000001"].references[0].hash
    first, second = pico["multi-turn/000000.1"], pico["multi-turn/000000.2"]
    assert first.target.hash == second.references[0].hash


def test_two_captions_are_never_guessed_between(tmp_path: Path) -> None:
    row = {"re_caption": "long", "caption": "short"}
    sets.tar(tmp_path / "s" / "0.tar", {"0.jpg": sets.jpeg(0), "0.json": json.dumps(row)})
    with pytest.raises(DataError, match=r"re_caption and caption; .* --caption-key re_caption"):
        run("laion_aesthetic", tmp_path / "s", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    run("laion_aesthetic", tmp_path / "s", tmp_path / "data", caption_key="re_caption")
    (record,) = records(tmp_path / "data").values()
    assert record.prompts[0].text == "long"


def test_assumptions_are_checked_before_anything_is_imported(tmp_path: Path) -> None:
    source = made(tmp_path, "nano_consistent")
    for wrong, message in (
        (
            {"prompt": "x", "input_images": ["a"], "output_image": "b"},
            "has instruction; the fields",
        ),
        ({"instruction": "x", "input_images": ["a"], "output_image": "b"}, "no image of the first"),
    ):
        sets.lines(source / "json" / "pose_cleaned.jsonl", [wrong])
        with pytest.raises(DataError, match=message):
            run("nano_consistent", source, tmp_path / "data")
        assert not (tmp_path / "data").exists()
    with pytest.raises(DataError, match=r"holds no json/\*\.jsonl"):
        run("nano_consistent", tmp_path / "source" / "images", tmp_path / "data")


def test_one_part_or_one_file_can_be_imported_alone(tmp_path: Path) -> None:
    source = made(tmp_path, "unireason")
    run("unireason", source, tmp_path / "generation", part="generation")
    assert list(records(tmp_path / "generation")) == ["t2i/000000"]
    run("unireason", source / "edit.json", tmp_path / "edit")
    assert list(records(tmp_path / "edit")) == ["edit/000000", "edit/000001"]
    with pytest.raises(ValueError, match="no part 'poems'; choose one of all, generation, editing"):
        run("unireason", source, tmp_path / "other", part="poems")


def test_the_same_source_on_another_day_gives_the_same_files(tmp_path: Path) -> None:
    source = made(tmp_path, "opengpt4o_image")
    run("opengpt4o_image", source, tmp_path / "first")
    run("opengpt4o_image", source, tmp_path / "second")
    assert content(tmp_path / "first") == content(tmp_path / "second")


def test_a_missing_part_of_an_archive_is_named(tmp_path: Path) -> None:
    source = made(tmp_path, "opengpt4o_image")
    (source / "gen.tar.gz.01").unlink()
    with pytest.raises(DataError, match=r"part 1 of gen\.tar\.gz is missing"):
        run("opengpt4o_image", source, tmp_path / "data")


def test_a_part_of_an_archive_that_is_there_twice_is_named(tmp_path: Path) -> None:
    for part in ("x.tar.1", "x.tar.01"):
        (tmp_path / part).write_bytes(b"abc")
    with pytest.raises(DataError, match=r"x\.tar has part 1 twice, with the endings 1 and 01"):
        find_archives(tmp_path)


def test_a_member_of_a_negative_size_ends_its_archive(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.txt").tobuf()
    negative = bytearray(tarfile.TarInfo("b.txt").tobuf())
    negative[124:136] = b"\xff" + (256**11 - 512).to_bytes(11, "big")
    negative[148:156] = b" " * 8
    negative[148:156] = b"%06o\0 " % sum(negative)
    (tmp_path / "x.tar").write_bytes(member + negative + member + bytes(1024))
    (archive,) = find_archives(tmp_path)
    found = list(islice(members(archive, tmp_path / "scratch"), 10))
    assert [each.reason for each in found if isinstance(each, BadRow)] == ["truncated"]


def test_an_archive_with_equal_file_names_never_supplies_images_of_another(tmp_path: Path) -> None:
    for name in ("setB.tar", "setC.tar"):
        sets.tar(tmp_path / name, {f"{name}.jpg": b"x", "1.jpg": b"x", "imgs/2.jpg": b"x"})
    images = Images(tmp_path, tmp_path / "scratch", ("*.tar",))
    for absent in ("setA/1.jpg", "setA/setB.tar.jpg", "other/2.jpg"):
        assert images.find(absent) == absent
    for stated, name in (
        ("setB/1.jpg", "setB.tar/1.jpg"),
        ("root/setC/1.jpg", "setC.tar/1.jpg"),
        ("root/setC/imgs/2.jpg", "setC.tar/imgs/2.jpg"),
        ("setB.tar.jpg", "setB.tar/setB.tar.jpg"),
    ):
        found = images.find(stated)
        assert isinstance(found, Span) and found.name == name
    images.close()


def test_images_located_by_the_end_of_their_path_are_counted_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    sets.tar(source / "imgs.tar", {"s.jpg": sets.jpeg(1), "t.jpg": sets.jpeg(2)})
    talk = [{"from": "human", "value": "Make it rain."}]
    row = {"image": ["imgs/s.jpg", "imgs/t.jpg"], "conversations": talk}
    sets.array(source / "edit.json", [row])
    opened = open_source("uniworld", source, SourceOptions(scratch=tmp_path / "scratch"))
    opened.probe()
    opened.revision()
    assert len(list(opened.rows())) == 1
    (note,) = opened.notes()
    assert note.startswith("2 images were found")


def test_instructions_of_three_kinds_for_one_source_image_are_three_samples(tmp_path: Path) -> None:
    source = made(tmp_path, "gpt_image_edit")
    row = {
        "id": "1", "input": "input/1.png", "output": "output/1.png", "instruction": "do it",
        "task": "color", "dataset_source": "omniedit",
    }  # fmt: skip
    rows = [{**row, "instruction_type": kind} for kind in ("original", "rewrite", "complex")]
    sets.array(source / "gpt-edit" / "omniedit" / "color" / "metadata" / "1.json", rows)
    run("gpt_image_edit", source, tmp_path / "data")
    found = records(tmp_path / "data")
    assert [each.rpartition("1/1")[2] for each in found] == ["", "/rewrite", "/complex"]
    assert quarantine(tmp_path / "data") == {}


@pytest.mark.parametrize(
    ("prompt", "tagged"),
    [
        ("a photo of two dogs", True),
        ("a photo of a red computer keyboard and a blue bus", True),
        ("A photo of a cat left of a tv remote.", True),
        ("a photo of a dog on the beach", False),
        ("a photo of an old man smiling", False),
    ],
)
def test_only_prompts_with_the_templates_of_geneval_are_tagged(prompt: str, tagged: bool) -> None:
    assert (GENEVAL.fullmatch(prompt) is not None) is tagged


def test_only_tables_of_perception_pairs_are_left_out_and_they_are_named(tmp_path: Path) -> None:
    for table in ("coco2017_canny_236574", "blip3o_canny_data", "json/depth/000001"):
        assert is_perception(table), table
    edits = ("depth_of_field_edit/1", "pose_change", "sketch_style/000001", "normal_edits/1")
    assert not any(is_perception(f"json/{each}") for each in edits)
    _, said = run("uniworld", made(tmp_path, "uniworld"), tmp_path / "data")
    assert "part edit leaves these tables out: blip3o_canny_data" in said


def test_all_edits_of_one_portrait_are_held_out_together(tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = [f"images/{n}.jpg" for n in range(6)]
    sets.loose(source, [*names, "images/out.jpg"])
    rows = [
        {"instruction": f"do {n}", "input_images": [names[n % 6]], "output_image": "images/out.jpg"}
        for n in range(24)
    ]
    sets.lines(source / "json" / "a_cleaned.jsonl", rows)
    run("nano_consistent", source, tmp_path / "data", val_fraction=0.5)
    splits: dict[str, set[str]] = {}
    for record in records(tmp_path / "data").values():
        splits.setdefault(record.references[0].hash, set()).add(record.split)
    assert all(len(each) == 1 for each in splits.values())
    assert {split for each in splits.values() for split in each} == {"train", "val"}
