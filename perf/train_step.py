"""A step of each training stage against a plain implementation of the published one, on CPU.

``python perf/train_step.py --prompts GENEVAL.jsonl DPG.jsonl``: 512 px, six VLM layers, six DiT
blocks and one connector layer (the released depths in proportion) at full width, random weights,
four samples, float32; the results are in ``perf/results/train_step_STAGE.json``. Both sides
alternate on the same weights and moments, with a learning rate of zero, so that every step sees the
same model and must compute the same loss and gradient. The targets are 1.2 times the speed of the
plain one for stage 1 and 1.08 times for stage 2, with prompts of one length and given latents. A
second case is recorded without a target: prompts of those files, padded to the longest, and images
that the plain side encodes in every step while ours has cached posteriors.

Stage 1 needs 9 GiB and stage 2 17 GiB; ``--blocks 3 --batch 2`` is for smaller machines.
``--masks`` gives the plain side's DiT the masks that the published training builds for every
attention (diffusers has none); ``--dry-run`` runs at toy size and writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from measure import alternate, compare, environment, write
from plain_step import PlainBatch, PlainStep
from transformers import PreTrainedTokenizerFast

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.encoder import Conditioner
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import BridgeConfig, DiTConfig, GenerationDefaults, ScheduleConfig
from deepgen.config.stage import Stage
from deepgen.config.train import LoraConfig
from deepgen.dit.model import DiT
from deepgen.eval.prompt_files import read_prompt_list
from deepgen.flow.schedule import training_sigmas
from deepgen.mini.training.tokenizer import train_tokenizer
from deepgen.model import DeepGen
from deepgen.train.loop import LoopConfig
from deepgen.train.objective import FlowBatch, FlowObjective
from deepgen.train.optim import AdamW
from deepgen.train.sample_rng import SampleKey, SampleRng
from deepgen.train.stream import ByStep
from deepgen.train.trainable import make_trainable
from deepgen.train.trainer import Trainer
from deepgen.types import Prompt
from deepgen.vae import LatentCodec

TARGETS: dict[Stage, float] = {"pretrain": 1.2, "sft": 1.08}

VOCABULARY = 8192
"""Gives about one token per word, as the released tokenizer; the files are English."""

EQUAL_TOKENS = 142
"""Tokens of the prompts of one length: 12 of the template and 130 of a usual training caption."""

VLM_LAYERS = 6

# Dropout would draw different masks on the two sides.
LORA = LoraConfig(dropout=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Widths and sides; depths are the same for all."""

    side: int = 512
    """Side of the images, in pixels."""
    vlm: Mapping[str, int] = field(
        default_factory=lambda: {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        }
    )
    rotary_sections: tuple[int, int, int] = (16, 24, 24)
    bridge: BridgeConfig = field(default_factory=lambda: BridgeConfig(num_hidden_layers=1))
    dit: DiTConfig = field(default_factory=lambda: DiTConfig(pos_embed_max_size=64))
    autoencoder: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of its blocks."""


TOY = Sizes(
    side=32,
    vlm={
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    rotary_sections=(2, 1, 1),
    bridge=BridgeConfig(
        num_queries=4,
        llm_hidden_size=32,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=3,
        pooled_projection_dim=20,
        joint_attention_dim=28,
    ),
    dit=DiTConfig(
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=28,
        caption_projection_dim=16,
        pooled_projection_dim=20,
        pos_embed_max_size=8,
    ),
    autoencoder=(32, 32, 32, 32),
)

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3


def new_model(sizes: Sizes, tokenizer: PreTrainedTokenizerFast, blocks: int) -> DeepGen:
    """A model of those sizes with random weights, think tokens and heads included."""
    torch.manual_seed(0)
    text = {
        **sizes.vlm,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": VLM_LAYERS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": list(sizes.rotary_sections),
        },
        "bos_token_id": None,
        "eos_token_id": None,
    }
    bridge = Bridge(sizes.bridge)
    vlm = VisionLanguageModel(
        {"text_config": text}, sizes.bridge, rope_precision="fp32", with_vision=False
    )
    for head in (bridge.projector_2, bridge.projector_3):
        # They begin as zeros, which would leave most gradients zero.
        torch.nn.init.normal_(head.weight, std=0.02)
    dit = DiT(
        replace(
            sizes.dit,
            num_layers=blocks,
            # Thirteen of 24 are dual.
            dual_attention_layers=tuple(range(round(blocks * 13 / 24))),
        )
    )
    # The released one.
    autoencoder = AutoencoderKL(
        latent_channels=16,
        block_out_channels=sizes.autoencoder,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    )
    return DeepGen(
        Conditioner(vlm, bridge, tokenizer),
        dit,
        LatentCodec(autoencoder).eval(),
        ScheduleConfig(),
        GenerationDefaults(),
    )


def equal_prompts(prompts: Sequence[str], model: DeepGen, count: int) -> list[str]:
    """``count`` different prompts of the same number of tokens, near the usual one."""
    lengths = [len(model.conditioner.tokenize(Prompt(text=text))) for text in prompts]
    for length in sorted(set(lengths), key=lambda each: abs(each - EQUAL_TOKENS)):
        same = dict.fromkeys(
            text for text, each in zip(prompts, lengths, strict=True) if each == length
        )
        if len(same) >= count:
            return list(same)[:count]
    raise SystemExit(f"found no {count} prompts of the same number of tokens; give more prompts")


def measure(
    model: DeepGen,
    stage: Stage,
    prompts: Sequence[str],
    *,
    side: int,
    repeats: int,
    encodes: bool,
    masks: bool,
) -> dict[str, Any]:
    """Time both sides on one batch.

    Args:
        model: Prepared for the stage.
        stage: Which.
        prompts: One per sample.
        side: Of the images.
        repeats: Steps of each side.
        masks: The plain side's DiT has masks.
        encodes: The plain side gets images instead of latents.
    """
    count = len(prompts)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(count, 3, side, side, generator=generator) * 2 - 1
    rng = SampleRng(0, stage)
    keys = [SampleKey(sample=str(index)) for index in range(count)]
    with torch.no_grad():
        posteriors = [model.vae.posteriors([each])[0] for each in pixels] if encodes else []
    latents = [torch.randn(16, side // 8, side // 8, generator=generator) for _ in range(count)]
    batch = FlowBatch(
        latents=posteriors or latents,
        prompts=[Prompt(text=text) for text in prompts],
        reference_latents=[[] for _ in prompts],
        keys=keys,
        weights=torch.full((count,), 1 / count),
    )
    optimizer = AdamW(model.named_parameters(), lr=0.0)
    ours: Trainer[DeepGen, FlowBatch] = Trainer(
        model,
        FlowObjective(training_sigmas(model.schedule), rng, padding="batch"),
        ByStep(lambda step: [batch]),
        optimizer,
        LoopConfig(steps=1000, schedule=lambda step: 1.0),
    )
    lora = None if stage == "pretrain" else LORA
    plain = PlainStep(model, VLM_LAYERS, lora, masks=masks)
    plain_batch = PlainBatch(
        token_ids=[model.conditioner.tokenize(each).token_ids for each in batch.prompts],
        pixels=pixels if encodes else None,
        latents=torch.stack(latents),
        keys=keys,
        rng=rng,
        sigmas=training_sigmas(model.schedule),
    )
    found: dict[str, list[tuple[float, float]]] = {"deepgen": [], "plain": []}

    def our_step() -> None:
        values = ours.step()
        found["deepgen"].append((values["loss"], values["grad_norm"]))

    sides: dict[str, Callable[[], object]] = {
        "plain": lambda: found["plain"].append(plain.step(plain_batch)),
        "deepgen": our_step,
    }
    # Moments exist once, and are allocated outside the measurement.
    our_step()
    plain.share_moments(optimizer)
    sides["plain"]()
    seconds = alternate(sides, repeats)
    check_equal(found)
    times = compare(seconds, "plain")
    return {
        **times,
        "speedup": round(1 / times["of_plain"]["deepgen"], 3),
        "target_speedup": None if encodes else TARGETS[stage],
        "prompt_tokens": [len(each) for each in plain_batch.token_ids],
        "loss": {name: values[-1][0] for name, values in found.items()},
        "gradient_norm": {name: values[-1][1] for name, values in found.items()},
    }


def check_equal(found: dict[str, list[tuple[float, float]]]) -> None:
    """Refuse to compare sides that compute different things."""
    loss, norm = found["plain"][0]
    for values in found.values():
        for other_loss, other_norm in values:
            if not (
                math.isclose(loss, other_loss, rel_tol=LOSS_TOLERANCE)
                and math.isclose(norm, other_norm, rel_tol=GRADIENT_TOLERANCE)
            ):
                raise SystemExit(f"the sides compute different things: {found}")


def main() -> None:
    """Measure all stages and cases, and write a record of each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--stage", choices=TARGETS, nargs="*", default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--masks", action="store_true", help="on the plain side, as published")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    sizes = TOY if arguments.dry_run else Sizes()
    torch.set_num_threads(arguments.threads)
    prompts = [text for path in arguments.prompts for text in read_prompt_list(path)]
    tokenizer = train_tokenizer(prompts, vocabulary=VOCABULARY)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(2)).tolist()
    drawn = [prompts[place] for place in order[: arguments.batch]]
    for stage in arguments.stage:
        record: dict[str, Any] = {
            "environment": environment(),
            "blocks": arguments.blocks,
            "batch": arguments.batch,
            "plain_has_masks": arguments.masks,
        }
        model = new_model(sizes, tokenizer, arguments.blocks)
        make_trainable(model, stage, lora=LORA)
        equal = equal_prompts(prompts, model, arguments.batch)
        times = partial(
            measure, model, stage, side=sizes.side, repeats=arguments.repeats, masks=arguments.masks
        )
        record["equal_lengths"] = times(equal, encodes=False)
        record["padded_and_encoding"] = times(drawn, encodes=True)
        if arguments.dry_run:
            print(json.dumps(record, indent=2))
        else:
            write(f"train_step_{stage}", record)
        # There is not enough memory for the models of two stages.
        del model, times
        gc.collect()


if __name__ == "__main__":
    main()
