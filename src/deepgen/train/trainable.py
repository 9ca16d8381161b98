"""Which parameters each stage trains (DeepGen paper, section 4)."""

from __future__ import annotations

from torch import nn

from deepgen.config.stage import STAGES, Stage
from deepgen.config.train import LoraConfig
from deepgen.model import DeepGen
from deepgen.nn.lora import add_lora


def make_trainable(
    model: DeepGen, stage: Stage, *, lora: LoraConfig | None = None, seed: int = 0
) -> dict[str, nn.Parameter]:
    """Freeze all that a stage does not train, and prepare the rest for training.

    Adapters are added to every linear layer of the language model and to its embedding, or to the
    linear layers of the DiT, see :class:`deepgen.config.stage.StageDescription`. Vision tower and
    VAE are never trained. What is trained is kept in float32, so that small updates are not rounded
    away.

    Args:
        model: Changed in place.
        stage: Which stage.
        lora: Adapters; None leaves the language model frozen in ``sft``.
        seed: Of the adapters' first values.

    Returns:
        What is trained, by name, in the order of the model.
    """
    description = STAGES[stage]
    model.requires_grad_(False)
    if description.adapters is not None and lora is not None:
        adapted = {"vlm": model.conditioner.vlm.language_model, "dit": model.dit}
        add_lora(adapted[description.adapters], lora, seed=seed)
    elif description.adapters == "dit":
        raise ValueError(f"the stage {stage} trains only adapters, so it needs their settings")
    if description.trains_bridge:
        model.conditioner.bridge.requires_grad_(True)
    if description.trains_dit:
        model.dit.requires_grad_(True)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    for value in trained.values():
        value.data = value.data.float()
    model.train()
    return trained
