from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

pytest.importorskip("uniseg")

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.importers.source import BadRow, RawSample
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.rendering import source
from deepgen.data.rendering.captions import captions
from deepgen.data.rendering.design import COLORS, CONTRAST, Block, Design, contrast
from deepgen.data.rendering.edits import draw_edit
from deepgen.data.rendering.faces import Face, find_faces
from deepgen.data.rendering.layout import DoesNotFitError, fit
from deepgen.data.rendering.painting import render
from deepgen.data.rendering.source import ATTEMPTS, RenderedTexts, Renderer, RenderOptions
from deepgen.data.rendering.texts import Text, compose
from deepgen.data.rendering.vocabulary import common_characters
from deepgen.errors import DataError
from tests.data.sets import content, image

SYSTEM_FONTS = Path("/usr/share/fonts")

pytestmark = pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no Raqm")


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Latin font of the system."""
    found = next(iter(sorted(SYSTEM_FONTS.rglob("DejaVuSans.ttf"))), None)
    if found is None:
        pytest.skip("the font DejaVu Sans is not installed")
    folder = tmp_path_factory.mktemp("fonts")
    (folder / found.name).symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def chinese() -> Face:
    """A Chinese font: of the system, or of the folder that ``DEEPGEN_FONTS`` names."""
    folders = [Path(each) for each in (os.environ.get("DEEPGEN_FONTS"), SYSTEM_FONTS) if each]
    for folder in folders:
        for name in ("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "LXGWWenKai-Regular.ttf"):
            if any(folder.rglob(name)):
                path = next(folder.rglob(name))
                return next(each for each in find_faces(path.parent) if each.path == path)
    pytest.skip("no Chinese font is installed")


def _renderer(fonts: Path, **options: object) -> Renderer:
    values = {
        "fonts": fonts,
        "count": 20,
        "side": 320,
        "languages": ("en",),
        "workers": 1,
        **options,
    }
    return Renderer(RenderOptions(**values))  # type: ignore[arg-type]


def _no_photo(number: int) -> Image.Image:
    raise AssertionError("no photograph was expected")


def _fitted(face: Face, text: str, width: int, **values: object) -> tuple[str, ...]:
    block = Block(text=Text(text=text), face=0, box=(0.0, 0.0, 1.0, 1.0), em=0.1, **values)  # type: ignore[arg-type]
    return fit(block, face, (width, 400), shorter=400, angle=20.0).lines


def test_a_sample_is_a_function_of_its_number(fonts: Path) -> None:
    first, second = _renderer(fonts), _renderer(fonts)
    samples = [first.sample(number) for number in range(3)]
    assert [second.sample(number) for number in (2, 1)] == [samples[2], samples[1]]
    assert len({each.target for each in samples if isinstance(each, RawSample)}) == 3
    assert _renderer(fonts, seed=1).sample(0) != samples[0]


def test_captions_quote_exactly_what_is_rendered_in_both_languages(fonts: Path) -> None:
    renderer = _renderer(fonts, edit_fraction=0.0)
    for number in range(5):
        sample = renderer.sample(number)
        assert isinstance(sample, RawSample)
        assert {each.lang for each in sample.prompts} == {"en", "zh"}
        assert {each.kind for each in sample.prompts} == {"caption_long", "caption_short"}
        for prompt in sample.prompts:
            assert all(text in prompt.text for text in sample.render_text)


def test_an_edit_changes_the_word_that_its_instruction_names(fonts: Path) -> None:
    renderer = _renderer(fonts, kinds=("poster",))
    design, _, _ = renderer.draw(0)
    seen = set()
    for seed in range(30):
        edit = draw_edit(design, np.random.default_rng(seed))
        seen.add(edit.change)
        texts = [" ".join(b.text.text for b in each.blocks) for each in (edit.before, edit.after)]
        if edit.change == "replace":
            quoted = re.findall("“(.+?)”", edit.instructions[1].text)
            old, new = quoted
            assert old != new
            assert texts[0].replace(old, new) == texts[1]
        if edit.change == "recolor":
            assert edit.after.ink != design.ink
            assert texts[0] == texts[1]
        if edit.change in ("add", "remove"):
            assert sorted(map(bool, texts)) == [False, True]
    assert seen == {"replace", "recolor", "add", "remove"}


def test_outside_of_the_changed_word_an_edit_leaves_the_image_as_it_was(fonts: Path) -> None:
    renderer = _renderer(fonts, kinds=("poster",), edit_fraction=1.0, encoding="png")
    for number in range(20):
        design, _, rng = renderer.draw(number)
        if draw_edit(design, rng).change == "replace":
            break
    sample = renderer.sample(number)
    assert isinstance(sample, RawSample)
    images = [Image.open(BytesIO(each)) for each in (sample.target, *sample.references)]  # type: ignore[arg-type]
    after, before = (np.asarray(each).astype(int) for each in images)
    assert before.shape == after.shape
    assert 0 < (before != after).any(axis=2).mean() < 0.3


def test_an_edit_that_never_fits_is_a_bad_row(fonts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = _renderer(fonts, kinds=("word",), edit_fraction=1.0)
    tries = []

    def fails(*arguments: object) -> RawSample:
        tries.append(arguments)
        raise DoesNotFitError("long")

    drawn = renderer.draw(0)
    monkeypatch.setattr(renderer, "draw", lambda number: drawn)
    monkeypatch.setattr(renderer, "_render", fails)
    found = renderer.sample(0)
    assert isinstance(found, BadRow)
    assert found.reason == "layout"
    assert len(tries) == ATTEMPTS


def test_another_version_of_what_renders_is_another_revision(
    fonts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = RenderedTexts(RenderOptions(fonts=fonts, count=1, languages=("en",), workers=1))
    found = {texts.revision()}
    for name in ("uniseg", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(source, "version", lambda each, name=name: f"{each == name}")
            found.add(texts.revision())
    monkeypatch.setattr(source, "RENDERING", source.RENDERING + 1)
    found.add(texts.revision())
    assert len(found) == 4


def test_text_can_be_read_on_its_ground(fonts: Path) -> None:
    renderer = _renderer(fonts)
    for number in range(5):
        design, drawn, _ = renderer.draw(number)
        assert contrast(design.ink, design.ground) >= CONTRAST
        assert min(drawn.ems) >= 22
        colors = [color for _, color in drawn.image.getcolors(1 << 20) or []]
        assert any(np.abs(np.subtract(each, design.ink.rgb)).sum() < 12 for each in colors)
    black, white = COLORS[0], COLORS[1]
    assert contrast(black, white) == contrast(white, black) > 17


def test_lines_break_where_unicode_allows_it(fonts: Path) -> None:
    (face,) = find_faces(fonts)
    lines = _fitted(face, "The price (net) is $3.50 today.", 200)
    assert len(lines) > 1
    assert " ".join(lines) == "The price (net) is $3.50 today."
    with pytest.raises(DoesNotFitError):
        _fitted(face, "unbreakable" * 9, 200)


def test_lines_of_verse_stay_whole_where_a_smaller_size_allows_it(fonts: Path) -> None:
    (face,) = find_faces(fonts)
    assert _fitted(face, "a quiet lamp beside\nthe door", 300) == (
        "a quiet lamp beside",
        "the door",
    )


def test_no_chinese_line_begins_with_a_comma_and_columns_run_downwards(chinese: Face) -> None:
    text = "春风又过小桥，归人不知年。欢迎来到 Beijing，请进！"
    for width in range(180, 330, 50):
        lines = _fitted(chinese, text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert not any(line.startswith(("，", "。", "！")) for line in lines)
    block = Block(
        text=Text(text="春风又过小桥"), face=0, box=(0.0, 0.0, 1.0, 1.0), em=0.1, layout="vertical"
    )
    found = fit(block, chinese, (400, 400), shorter=400, angle=0.0)
    assert found.height > 4 * found.width


@pytest.mark.parametrize("layout", ["straight", "slanted", "curved", "vertical", "perspective"])
def test_every_layout_stays_inside_the_image(chinese: Face, layout: str) -> None:
    is_sign = layout == "perspective"
    box = (0.1, 0.1, 0.9, 0.9)
    block = Block(text=Text(text="青山旧城"), face=0, box=box, em=0.14, layout=layout)  # type: ignore[arg-type]
    design = Design(
        kind="sign" if is_sign else "word",
        language="zh",
        size=(320, 416),
        blocks=(block,),
        ink=COLORS[0],
        ground=COLORS[1],
        wall=COLORS[9],
        background="plain",
        angle=70.0 if layout == "curved" else 15.0,
        corners=((0.1, 0.2), (0.9, 0.25), (0.9, 0.7), (0.1, 0.8)) if is_sign else (),
    )
    drawn = render(design, [chinese], _no_photo)
    ink = np.asarray(drawn.image.convert("L")) < 60
    assert 0.01 < ink.mean() < 0.2
    assert not ink[:8].any() and not ink[-8:].any() and not ink[:, :8].any()
    assert not ink[:, -8:].any()
    prompts = captions(design, [chinese], drawn.ems, np.random.default_rng(0))
    assert all("青山旧城" in each.text for each in prompts)


def test_signs_stand_over_photographs_of_the_user(fonts: Path, tmp_path: Path) -> None:
    image(tmp_path / "photos" / "wall.png", 3, (200, 150))
    renderer = _renderer(fonts, kinds=("sign",), photos=tmp_path / "photos", edit_fraction=0.0)
    design, drawn, _ = renderer.draw(0)
    assert design.background == "photo"
    # The noise of the photograph in a corner, none of it on the sign.
    pixels = np.asarray(drawn.image.convert("L")).astype(float)
    assert pixels[:20, :20].std() > 20
    (tmp_path / "photos" / "wall.png").write_bytes(b"no image")
    broken = _renderer(fonts, kinds=("sign",), photos=tmp_path / "photos").sample(0)
    assert isinstance(broken, BadRow)
    assert broken.reason == "not_an_image"


def test_texts_of_the_user_take_the_place_of_sentences(fonts: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("Mind the gap\n\n 永远 \n", encoding="utf-8")
    renderer = _renderer(fonts, kinds=("sentence",), texts=texts, edit_fraction=0.0)
    samples = [renderer.sample(number) for number in range(4)]
    assert {s.render_text for s in samples if isinstance(s, RawSample)} == {("Mind the gap",)}
    rejected = [each for each in samples if isinstance(each, BadRow)]
    assert {each.reason for each in rejected} == {"font"}
    assert "永远" in rejected[0].message


def test_every_composed_text_has_no_gaps_and_its_words_once() -> None:
    for language in ("en", "zh", "mixed"):
        for kind in ("word", "sentence", "poster", "poem", "sign"):
            for seed in range(6):
                rng = np.random.default_rng(seed)
                for text in compose(kind, language, rng):  # type: ignore[arg-type]
                    assert text.text.strip() == text.text != ""
                    assert not set("{}") & set(text.text)
                    assert all(text.text.count(word) == 1 for _, word in text.words)
                    assert not re.search(r"\ba [aeiou]", text.text)
                    changed = text.replaced(rng)
                    assert changed is None or not re.search(r"\ba [aeiou]", changed[0].text)
    assert len(common_characters()) == len(set(common_characters())) == 3755


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fonts", "nowhere"], "there is no folder nowhere of fonts"),
        (["--fonts", "."], "has no font that can be used; expected files ending in .ttf"),
        (["--fonts", "fonts"], "no font in fonts has Chinese characters; add one, or render only"),
        (["--fonts", "fonts", "--languages", "en", "--photos", "fonts"], "has no photographs"),
        (["--fonts", "fonts", "--languages", "en", "--count", "0"], "--count must be at least 1"),
        (["--fonts", "fonts", "--languages", "en", "--side", "64"], "--side must be at least 256"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    fonts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "fonts" in arguments:
        (tmp_path / "fonts").symlink_to(fonts)
    assert main(["data", "render-text", "data", *arguments]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_an_interrupted_run_resumes_without_rendering_again(
    fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RenderOptions(
        fonts=fonts, count=6, side=256, languages=("en",), kinds=("word",), workers=1
    )

    def run(name: str) -> None:
        limits = ImportOptions(name="text", shard_bytes=1)
        import_source(RenderedTexts(options), tmp_path / name, limits, workers=1)

    run("whole")
    original, rendered = Renderer.sample, []

    def stopping(self: Renderer, number: int) -> RawSample | BadRow:
        if len(rendered) == 3:
            raise DataError("stopped")
        rendered.append(number)
        return original(self, number)

    monkeypatch.setattr(Renderer, "sample", stopping)
    with pytest.raises(DataError, match="stopped"):
        run("stopped")
    monkeypatch.setattr(Renderer, "sample", original)
    run("stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert len(DataSet.open(tmp_path / "whole")) == 6


def test_processes_give_the_samples_in_their_order(fonts: Path) -> None:
    options = {"fonts": fonts, "count": 4, "languages": ("en",), "side": 256}
    source = RenderedTexts(RenderOptions(**options, workers=2))  # type: ignore[arg-type]
    expected = [source.renderer.sample(number) for number in range(2, 4)]
    assert list(source.rows_from(2)) == expected
