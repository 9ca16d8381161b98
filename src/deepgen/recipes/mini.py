"""Train the mini, version 0: autoencoder, then VLM, bridge and DiT together on the flow.

``python -m deepgen.recipes.mini RUN_FOLDER`` takes a few hours on two CPU cores. It may be
stopped at any time and goes on where it was when started again. ``RUN_FOLDER/model`` is what
``deepgen generate --model`` reads; ``RUN_FOLDER/preview.png`` shows how far it is. Needs the extra
``[mini]``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import PreTrainedTokenizerFast

from deepgen.checkpoint.folder import save_folder
from deepgen.flow.schedule import training_sigmas
from deepgen.mini.drawing import draw
from deepgen.mini.version0 import held_out_background_edit, held_out_drawing, held_out_pairs
from deepgen.model import DeepGen
from deepgen.pipeline.pipeline import DeepGenPipeline
from deepgen.recipes.mini_data import LatentCache, autoencoder_batch, vocabulary_texts
from deepgen.recipes.mini_model import (
    DEFAULTS,
    SCHEDULE,
    SIDE,
    new_autoencoder,
    new_conditioner,
    new_dit,
)
from deepgen.recipes.mini_tokenizer import train_tokenizer
from deepgen.train.draws import VisitDraws
from deepgen.train.ema import Ema
from deepgen.train.objective import AutoencoderObjective, FlowObjective
from deepgen.train.optim import MatrixOptimizer, warmup_cosine
from deepgen.train.trainer import Trainer
from deepgen.vae import LatentCodec

AUTOENCODER_BATCH = 8
FLOW_BATCH = 64
SAMPLES = 24_000
"""Different training samples; drawings and edits, each encoded once."""

VOCABULARY = 1024

# The rows of these are entries of a table, or feed nothing but a sum; Muon would give rare ones
# the same push as common ones. The modulations are left to AdamW for speed: a third of the DiT.
ADAMW_NAMES = ("embed_tokens", "meta_queries", "pos_embed", "norm1", "norm_out", "time_text_embed")


def train_autoencoder(folder: Path, steps: int) -> AutoencoderKL:
    """Stage one: pictures into latents and back."""
    model = new_autoencoder(seed=0).to(memory_format=torch.channels_last)
    average = Ema(dict(model.named_parameters()))
    trainer = Trainer(
        model,
        AutoencoderObjective(),
        lambda step: [autoencoder_batch(step, AUTOENCODER_BATCH)],
        MatrixOptimizer(model.named_parameters(), lr=4e-3),
        steps=steps,
        schedule=partial(warmup_cosine, steps=steps, warmup=50),
        ema=average,
    )
    trainer.run(folder)
    average.settle()
    return model.eval()


def train_flow(
    folder: Path,
    autoencoder: AutoencoderKL,
    cache: LatentCache,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
) -> DeepGen:
    """Stage two: everything but the autoencoder, from scratch, by flow matching."""
    autoencoder.register_to_config(shift_factor=cache.shift, scaling_factor=cache.scale)
    model = DeepGen(
        new_conditioner(tokenizer, seed=1),
        new_dit(seed=2),
        LatentCodec(autoencoder.requires_grad_(False)),
        SCHEDULE,
        DEFAULTS,
    )
    average = Ema({name: each for name, each in model.named_parameters() if each.requires_grad})
    trainer = Trainer(
        model,
        FlowObjective(training_sigmas(SCHEDULE), VisitDraws(0, "mini")),
        lambda step: [cache.batch(step, FLOW_BATCH)],
        MatrixOptimizer(
            model.named_parameters(), lr=3e-3, adamw_names=ADAMW_NAMES, weight_decay=0.01
        ),
        steps=steps,
        schedule=partial(warmup_cosine, steps=steps, warmup=100),
        ema=average,
    )
    trainer.run(
        folder,
        save_every=250,
        log_every=25,
        watch=lambda model, step: preview(model, folder.parent / "preview.png"),
    )
    average.settle()
    return model.eval()


def preview(model: DeepGen, path: Path) -> None:
    """Ten held-out drawings, ten held-out edits, each under what is true."""
    pipe = DeepGenPipeline(model)
    pipe.set_progress_bar_config(disable=True)
    pairs = held_out_pairs()[::4]
    canvas = Image.new("RGB", (len(pairs) * SIDE, 4 * SIDE))
    drawings = [held_out_drawing(pair) for pair in pairs]
    edits = [held_out_background_edit(pair) for pair in pairs]
    sources = [draw(edit.source) for edit in edits if edit.source is not None]
    drawn = pipe([each.text for each in drawings], seed=0).images
    edited = pipe([each.text for each in edits], image=[[each] for each in sources], seed=0).images
    rows = ([draw(each.target) for each in drawings], drawn, sources, edited)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            canvas.paste(picture, (column * SIDE, row * SIDE))
    canvas.resize((2 * canvas.width, 2 * canvas.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Run both stages, then write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--autoencoder-steps", type=int, default=5700)
    parser.add_argument("--flow-steps", type=int, default=3100)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder: Path = arguments.folder
    autoencoder = train_autoencoder(folder / "autoencoder", arguments.autoencoder_steps)
    cached = folder / "latents.pt"
    if not cached.exists():
        LatentCache.build(autoencoder, SAMPLES).save(cached)
    tokenizer = train_tokenizer(vocabulary_texts(SAMPLES), vocabulary=VOCABULARY)
    model = train_flow(
        folder / "flow", autoencoder, LatentCache.load(cached), tokenizer, arguments.flow_steps
    )
    # Half precision halves the download and changes pictures by less than a grey level.
    save_folder(model, folder / "model", dtype=torch.float16, overwrite=True)


if __name__ == "__main__":
    main()
