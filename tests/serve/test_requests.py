from __future__ import annotations

import pytest
from PIL import Image

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import ServeConfig
from deepgen.serve.errors import ApiError
from deepgen.serve.requests import Resolver
from deepgen.serve.schemas import ImageParameters, parse_fields, text_values


def test_settings_of_the_solver_reach_the_engine_from_json_and_from_forms() -> None:
    resolver = Resolver(find_model("mini"), ServeConfig())
    json_values = {"solver": "ab2", "guidance_interval": [0.2, 0.8], "guidance_rescale": 0.5}
    form = [("solver", "ab2"), ("guidance_interval", "0.2,0.8"), ("guidance_rescale", "0.5")]
    # As OpenAI's Python client writes a list.
    of_client = [form[0], *(("guidance_interval[]", each) for each in ("0.2", "0.8")), form[2]]
    for values in (json_values, text_values(form), text_values(of_client)):
        # Without guidance, an interval of it would be ignored.
        given = {"prompt": "a", "guidance_scale": 2.0, **values}
        fields, _ = parse_fields(ImageParameters, given, ignore_unknown=False)
        (command,) = resolver.resolve(fields, []).commands("client")
        assert command.values["solver"] == {**json_values, "guidance_interval": (0.2, 0.8)}
    with pytest.raises(ApiError, match="guidance_interval needs 2 values"):
        parse_fields(
            ImageParameters, {"prompt": "a", "guidance_interval": [0.3]}, ignore_unknown=False
        )
    fields = ImageParameters(prompt="a", guidance_interval=[0.8, 0.2])
    with pytest.raises(ApiError, match="LOW <= HIGH") as caught:
        resolver.resolve(fields, [])
    assert caught.value.param == "guidance_interval"


def test_an_edit_is_finished_at_its_own_size_with_what_its_mask_keeps() -> None:
    resolver = Resolver(find_model("mini"), ServeConfig())
    original = Image.new("RGB", (100, 60), "red")
    mask = Image.new("L", original.size)
    mask.paste(255, (0, 0, 50, 60))
    request = resolver.resolve(ImageParameters(prompt="blue"), [], [original], mask)
    done = request.finished(Image.new("RGB", (96, 64), "blue"))
    assert done.size == (100, 60)
    assert done.getpixel((99, 30)) == (255, 0, 0)
    assert done.getpixel((10, 30)) == (0, 0, 255)
