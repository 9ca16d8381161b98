"""Which parameters each stage trains (DeepGen paper, section 4)."""

from __future__ import annotations

from torch import nn

from deepgen.config.stage import Stage
from deepgen.config.train import LoraConfig
from deepgen.model import DeepGen
from deepgen.nn.lora import add_lora


def make_trainable(
    model: DeepGen, stage: Stage, *, lora: LoraConfig | None = None, seed: int = 0
) -> dict[str, nn.Parameter]:
    """Freeze all that a stage leaves alone, and make the model ready for training.

    ``pretrain`` trains think tokens, projectors and connector; ``sft`` the whole DiT too, and
    adapters on every linear layer of the language model and on its embedding; ``lora`` only
    adapters on the linear layers of the DiT. Vision tower and VAE are never trained. What is
    trained is kept in float32, so that small updates are not rounded away.

    Args:
        model: Changed in place.
        stage: Which stage.
        lora: Adapters of ``sft``; None leaves the language model frozen.
        seed: Of the adapters' first values.

    Returns:
        What is trained, by name, in the order of the model.
    """
    model.requires_grad_(False)
    if stage == "lora":
        if lora is None:
            raise ValueError("the stage lora trains only adapters, so it needs their settings")
        add_lora(model.dit, lora, seed=seed)
    parts: list[nn.Module] = [] if stage == "lora" else [model.conditioner.bridge]
    if stage == "sft":
        parts.append(model.dit)
        if lora is not None:
            add_lora(model.conditioner.vlm.language_model, lora, seed=seed)
    for part in parts:
        part.requires_grad_(True)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    for value in trained.values():
        value.data = value.data.float()
    model.train()
    return trained
