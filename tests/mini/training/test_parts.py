import pytest
import torch

from deepgen.config.mini import MiniConfig
from deepgen.config.train import Precision
from deepgen.mini.training.label_pretraining import LabelBatches, LatentBatches
from deepgen.mini.training.model import new_autoencoder
from deepgen.mini.training.parts import Part, autoencoder_part, captioning_part, label_part
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.nn.compiling import is_compiled
from deepgen.vae import LatentCodec

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


@pytest.mark.parametrize(
    ("precision", "amx", "dtype"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, None),
        ("float32", True, None),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_the_dit_is_trained_in_bfloat16_where_a_cpu_multiplies_it_fast(
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    amx: bool,
    dtype: torch.dtype | None,
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": amx})
    codec = LatentCodec(new_autoencoder(0))
    part = label_part(codec, MiniConfig(precision=precision, batch_size=4), torch.device("cpu"))
    assert part.objective.autocast == part.batches.autocast == dtype


def test_blocks_are_compiled_where_the_settings_say_so() -> None:
    codec = LatentCodec(new_autoencoder(0))
    for compiled in (False, True):
        part = label_part(codec, MiniConfig(compile=compiled, batch_size=4), torch.device("cpu"))
        assert all(is_compiled(block) is compiled for block in part.model.dit.transformer_blocks)


def test_bfloat16_changes_latents_by_a_few_hundredths_of_their_deviation_at_most() -> None:
    batches = LabelBatches(sizes=(2, 1), side=64)
    codec = LatentCodec(new_autoencoder(0))
    exact, rounded = (
        LatentBatches(batches, codec, autocast=each)(0)[0].latents
        for each in (None, torch.bfloat16)
    )
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < (exact - rounded).std() <= 0.03 * exact.std()
