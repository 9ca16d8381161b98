"""Whether torch.compile can work."""

import pytest
import torch
from torch._inductor import config

from deepgen.errors import TrainingError
from deepgen.nn.compiling import check_compiler


def test_a_missing_compiler_is_named_in_one_line() -> None:
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(
            TrainingError, match=r"needs a C\+\+ compiler .* leave compile out"
        ) as caught,
    ):
        check_compiler(torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_a_gpu_needs_none() -> None:
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        check_compiler(torch.device("cuda"))
