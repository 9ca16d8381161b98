"""``deepgen data cache``: latents of all images, encoded before training."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from deepgen.checkpoint.finding import find_model
from deepgen.cli.console import print_result, progress_bar
from deepgen.cli.data.disk import reporting_disk_failures
from deepgen.cli.options import DataFolder, DeviceChoice, Whole
from deepgen.config.sizes import check_side
from deepgen.devices import pick_device

if TYPE_CHECKING:
    from deepgen.data.latents import LatentCache


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Encode all images once instead of in training; the same command resumes."""

    folder: DataFolder
    """A data set."""
    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """Model whose VAE encodes: the embedded model (mini), a model folder, or a hub id."""
    side: Whole = None
    """Images are resized to about SIDE * SIDE pixels (default: the model's own)."""
    batch_size: int = 8
    """Images encoded together."""
    device: DeviceChoice = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Encode, and print the folder of the cache, or of that of each member of a mixture."""
        with reporting_disk_failures(self.folder):
            caches = self._encode()
        for cache in caches:
            path, found = str(cache.folder), {"side": cache.side, "files": cache.files}
            print_result(json.dumps({"path": path, **found}) if self.json else path)

    def _encode(self) -> list[LatentCache]:
        from deepgen.data.mixture import open_data

        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")
        data, model = open_data(self.folder), find_model(self.model)
        own = round(math.sqrt(model.defaults.height * model.defaults.width))
        side = check_side("--side", own if self.side is None else self.side)
        import torch

        from deepgen.checkpoint.parts import vae_part
        from deepgen.data.latents import build_cache, weights_hash
        from deepgen.vae import LatentCodec

        device = torch.device(pick_device(self.device))
        # In float32: rounding here would affect every epoch.
        codec = LatentCodec(vae_part(model.folder).load(torch.float32, device)).eval()
        with torch.inference_mode(), progress_bar("encoding", None) as advance:
            return [
                build_cache(
                    member,
                    lambda pixels: codec.posterior_parameters(pixels.to(device)),
                    vae_hash=weights_hash(codec),
                    side=side,
                    batch_size=self.batch_size,
                    watch=advance,
                )
                for member, _ in data.parts
            ]
