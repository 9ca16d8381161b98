import math

import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.config.model import EDIT_NEGATIVE_PROMPT, GenerationDefaults
from deepgen.pipeline.request import (
    Request,
    beyond_training,
    noise_generators,
    parse_requests,
    parse_sampling,
)

DEFAULTS = GenerationDefaults()
PHOTO = Image.new("RGB", (1024, 768))
SQUARE = Image.new("RGB", (512, 512))


def parse(prompt: str | list[str], image: object = None, **options: object) -> list[Request]:
    arguments = {
        "negative_prompt": None,
        "height": None,
        "width": None,
        "latents": None,
        "channels": 16,
        "defaults": DEFAULTS,
        "max_side": 6144,
        **options,
    }
    return parse_requests(prompt, image, **arguments)  # type: ignore[arg-type]


def test_a_drawing_has_the_models_own_size_and_the_empty_negative() -> None:
    (request,) = parse("a cat")
    assert (request.height, request.width) == (512, 512)
    assert request.negative_prompt == ""
    assert request.references == ()
    assert request.output_size is None


def test_an_edit_is_made_at_its_first_references_size_and_shown_at_the_users() -> None:
    (request,) = parse("make it night", Image.new("RGB", (1000, 750)))
    assert (request.height, request.width) == (448, 608)
    assert request.output_size == (750, 1000)
    assert request.negative_prompt == EDIT_NEGATIVE_PROMPT


def test_a_reference_whose_size_fits_is_left_alone() -> None:
    (request,) = parse("make it night", PHOTO)
    assert (request.references[0].height, request.references[0].width) == (768, 1024)
    assert request.output_size is None


def test_an_explicit_size_wins_and_is_not_resized_back() -> None:
    (request,) = parse("make it night", Image.new("RGB", (333, 777)), height=256, width=320)
    assert (request.height, request.width) == (256, 320)
    assert (request.references[0].height, request.references[0].width) == (800, 352)
    assert request.output_size is None


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        ((50, 70), {"height": 96}, (96, 64)),
        ((50, 70), {"width": 96}, (128, 96)),
        ((1000, 500), {"width": 256}, (128, 256)),
        ((1000, 10), {"width": 320}, (32, 320)),
    ],
)
def test_one_side_of_an_edit_alone_keeps_the_images_shape(
    size: tuple[int, int], given: dict[str, int], expected: tuple[int, int]
) -> None:
    (request,) = parse("make it night", Image.new("RGB", size), **given)
    assert (request.height, request.width) == expected
    assert request.output_size is None


def test_an_empty_prompt_is_refused_as_in_the_command_line() -> None:
    for prompt in ("", "  ", ["a", ""]):
        with pytest.raises(ValueError, match="the prompt is empty"):
            parse(prompt)


def test_what_a_model_was_not_trained_on_is_said() -> None:
    mini = GenerationDefaults(height=64, width=64, trained_size_ratio=1.0, trained_references=1)
    small = Image.new("RGB", (64, 64))
    assert not beyond_training(parse("a", defaults=mini), mini)
    assert not beyond_training(parse("a", small, defaults=mini), mini)
    assert not beyond_training(parse("a", height=512, width=768), DEFAULTS)
    cases: list[tuple[list[Request], GenerationDefaults, str]] = [
        (parse("a", height=256, width=256, defaults=mini), mini, "64 x 64; at 256 x 256"),
        (parse("a", height=1024, width=1024), DEFAULTS, "512 x 512; at 1024 x 1024"),
        (parse("a", [small, small], defaults=mini), mini, "edits of 1 image; with 2"),
        (parse("a", Image.new("RGB", (1, 1)), defaults=mini), mini, "1 x 1 is enlarged to 64 x 64"),
        (parse("a", Image.new("RGB", (200, 140)), defaults=mini), mini, "trained on images of"),
    ]
    for requests, defaults, part in cases:
        (note,) = beyond_training(requests, defaults)
        assert part in note


def test_every_prompt_of_a_list_has_references_of_its_own() -> None:
    first, second = parse(["a", "b"], [[SQUARE, PHOTO], []])
    assert [len(first.references), len(second.references)] == [2, 0]
    assert [first.negative_prompt, second.negative_prompt] == [EDIT_NEGATIVE_PROMPT, ""]


def test_an_empty_negative_prompt_is_the_empty_prompt() -> None:
    (request,) = parse("make it night", SQUARE, negative_prompt="")
    assert request.negative_prompt == ""


def test_given_latents_fix_the_size() -> None:
    (request,) = parse("make it night", SQUARE, latents=torch.zeros(1, 16, 8, 12))
    assert (request.height, request.width) == (64, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 100}, "multiple of 32, got 100; 96 and 128 are the nearest"),
        ({"width": 0}, "width must be a positive multiple of 32, got 0"),
        ({"width": -32}, "got -32"),
        ({"height": 6176}, "at most 6144"),
        ({"height": 512.0}, "got 512.0"),
        ({"negative_prompt": ["a", "b"]}, "1 prompts need as many negatives, got 2"),
        ({"negative_prompt": [None]}, "negative_prompt must be"),
        ({"negative_prompt": 5}, "negative_prompt must be"),
        ({"latents": torch.zeros(16, 8, 8)}, "latents must be"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "16, height / 8"),
        ({"latents": np.zeros((1, 16, 8, 8))}, "got ndarray"),
        ({"latents": torch.full((1, 16, 8, 8), math.nan)}, "finite"),
        ({"latents": torch.zeros(1, 16, 8, 8), "height": 96}, "latents are for height 64"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse("a cat", **options)


def test_images_that_do_not_match_the_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 prompts need a list of 2 lists"):
        parse(["a", "b"], [SQUARE])
    with pytest.raises(ValueError, match="must be a PIL image"):
        parse("a", "cat.png")
    with pytest.raises(ValueError, match="got a str"):
        parse("a", "cat.png")
    with pytest.raises(ValueError, match="got a ndarray"):
        parse("a", np.zeros((8, 8, 3)))
    for prompts in ([], None, [1]):
        with pytest.raises(ValueError, match="non-empty list"):
            parse(prompts)  # type: ignore[arg-type]


def test_a_reference_too_long_for_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="crop it"):
        parse("a", Image.new("RGB", (3000, 10)), max_side=1024)


@pytest.mark.parametrize(
    ("steps", "guidance", "padding", "message"),
    [
        (0, None, None, "at least 1, got 0"),
        (2.5, None, None, "whole number"),
        ("2", None, None, "whole number"),
        (None, [1], None, "a number from"),
        (None, math.nan, None, "got nan"),
        (None, math.inf, None, "got inf"),
        (None, -1.0, None, "from 0 to 1000"),
        (None, 10**400, None, "from 0 to 1000"),
        (10**9, None, None, "from 1 to 1000"),
        (None, None, "most", "pair, none, batch"),
    ],
)
def test_bad_sampling_is_named(steps, guidance, padding, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        parse_sampling(steps, guidance, padding, DEFAULTS)


def test_image_i_of_a_call_uses_seed_plus_i() -> None:
    generators, seeds = noise_generators(3, 40, None)
    assert seeds == [40, 41, 42]
    assert [each.initial_seed() for each in generators] == [40, 41, 42]


def test_without_a_seed_one_is_drawn_from_torchs_own_generator() -> None:
    torch.manual_seed(5)
    _, first = noise_generators(1, None, None)
    torch.manual_seed(5)
    _, again = noise_generators(1, None, None)
    assert first == again
    assert noise_generators(1, None, None)[1] != first


def test_seeds_of_numpy_are_seeds() -> None:
    assert noise_generators(2, np.int64(40), None)[1] == [40, 41]


def test_no_seed_makes_given_latents_again() -> None:
    before = torch.get_rng_state()
    assert noise_generators(2, None, None, drawn=False)[1] == [None, None]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("generator", [1, [1], "cpu"])
def test_what_is_no_generator_is_refused(generator: object) -> None:
    with pytest.raises(ValueError, match="generator"):
        noise_generators(1, None, generator)


def test_seed_and_generator_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        noise_generators(1, 1, torch.Generator())
    with pytest.raises(ValueError, match="2 images need 2 generators, got 1"):
        noise_generators(2, None, [torch.Generator()])
    with pytest.raises(ValueError, match="seed must be a whole number"):
        noise_generators(1, -1, None)
