import pytest
import torch

from deepgen.config.mini import MiniConfig
from deepgen.mini.training.parts import Part, autoencoder_part, captioning_part
from deepgen.mini.training.tokenizer import train_tokenizer

# Has no data, but refuses to compute with tensors of another device, as a GPU does.
ELSEWHERE = torch.device("meta")


def _captioning(device: torch.device) -> Part:
    return captioning_part(train_tokenizer(["a fox"], vocabulary=300), MiniConfig(), device)


def test_the_loss_of_the_autoencoder_is_computed_where_its_model_is() -> None:
    part = autoencoder_part(MiniConfig(), ELSEWHERE)
    loss = part.objective(part.model, torch.zeros(2, 3, 64, 64), torch.Generator())
    loss.total.backward()
    assert loss.total.device == ELSEWHERE


@pytest.mark.parametrize(("device", "packing"), [("cpu", True), ("meta", False)])
def test_only_a_cpu_packs_the_rows_of_captions(device: str, packing: bool) -> None:
    assert _captioning(torch.device(device)).model.packing is packing
