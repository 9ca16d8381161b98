"""``deepgen serve``: a model as a server, with a page."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from deepgen.cli.console import print_result
from deepgen.cli.options import ComputeOptions, File, KeyFiles, Text, Whole, parse_adapters
from deepgen.config.memory import check_quantization
from deepgen.config.serve import Replicas, ServeConfig
from deepgen.errors import UsageError, reason_of
from deepgen.extras import install_line
from deepgen.reading import is_readable_by_all, read_text

logger = logging.getLogger(__name__)

KEY_VARIABLE = "DEEPGEN_API_KEY"

Names = UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Serve a model over HTTP: a page for people, and the OpenAI images API for programs."""

    model: Annotated[str, arg(metavar="MODEL")] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Where to listen; addresses that other machines can reach need an API key."""
    port: Annotated[int, arg(metavar="INT")] = 8000
    """Port; 0 takes a free one."""
    api_key_file: File = None
    """A file with an API key per line, as KEY or NAME:KEY (or the variable DEEPGEN_API_KEY)."""
    allow_host: Annotated[Names, arg(metavar="NAME")] = ()
    """A host name under which the server is reached, as behind a proxy; needs an API key."""
    allow_origin: Annotated[Names, arg(metavar="URL")] = ()
    """A web page of another server that may use this one, such as https://example.org."""
    model_alias: Annotated[Names, arg(metavar="NAME")] = ()
    """Another name that requests may use for the model."""
    lora: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="PATH[:SCALE]")] = ()
    """A LoRA adapter to apply."""
    max_batch_rows: Whole = None
    """Images computed at once; guided ones count twice (default: 8 on a CPU, 16 on a GPU)."""
    max_batch_tokens: Whole = None
    """Tokens computed at once (default: on a GPU what its memory suffices for, measured)."""
    max_queue: Annotated[int, arg(metavar="INT")] = 64
    """Images that may wait."""
    max_n: Annotated[int, arg(metavar="INT")] = 10
    """Images per request."""
    max_references: Annotated[int, arg(metavar="INT")] = 16
    """Images to edit per request."""
    max_pixels: Whole = None
    """Pixels of an image (default: those of twice the model's side)."""
    images_per_minute: Whole = None
    """Images per client and minute (default: 60, without limit on this machine alone)."""
    deadline: Annotated[float, arg(metavar="SECONDS")] = 300.0
    """From a request to its image, waiting included."""
    grace: Annotated[float, arg(metavar="SECONDS")] = 30.0
    """For running requests when the server is stopped."""
    unknown_fields: Literal["reject", "ignore"] = "reject"
    """What to do with fields of requests that do not exist."""
    metadata: Literal["full", "minimal"] = "full"
    """Whether prompts are written into images."""
    sign: KeyFiles = None
    """Private key and certificate chain (PEM) that sign a C2PA manifest in every image."""
    ray: Text = None
    """Serve on a Ray cluster (extra ray) with so many replicas, as NUMBER or MIN:MAX."""
    no_page: bool = False
    """Serve the page; the API remains."""
    deterministic: bool = False
    """One image at a time: the same bits whatever else is asked for."""
    log_prompts: bool = False
    """Write prompts into the log."""
    debug: bool = False
    """Show where an error comes from."""
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    """Device and precision, for experts."""

    def run(self) -> None:
        """Serve until a signal.

        Raises:
            UsageError: A key is needed, or the extra is not installed.
            CheckpointError: The model cannot be used.
        """
        config = self._config()
        if not config.is_local and not config.keys:
            option = "--allow-host" if self.allow_host else f"--host {self.host}"
            raise UsageError(
                f"{option} lets other machines in; name keys with --api-key-file or {KEY_VARIABLE}"
            )
        from deepgen.checkpoint.finding import find_model

        model = find_model(self.model)
        if config.quantize is not None:
            check_quantization(config.quantize)
        try:
            from deepgen.serve.logs import set_up
            from deepgen.serve.server import serve
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is not installed; use {install_line('serve')}"
            ) from None
        set_up()

        def announce(address: str) -> None:
            print_result(address)
            logger.info({"message": f"loading {self.model}"}, extra={"event": "loading"})

        if self.ray is None:
            serve(config, model, announce)
            return
        if self.port == 0:
            raise UsageError("--ray needs a --port, the same on all machines, not 0")
        if find_spec("ray") is None:
            raise UsageError(f"ray is not installed; use {install_line('serve,ray')}")
        from deepgen.serve.ray_serve import serve_on_ray

        serve_on_ray(config, parse_replicas(self.ray), announce)

    def _config(self) -> ServeConfig:
        return ServeConfig(
            model=self.model,
            model_alias=self.model_alias,
            adapters=tuple((str(each.path), each.scale) for each in parse_adapters(self.lora)),
            device=self.compute.device,
            dtype=self.compute.dtype,
            padding=self.compute.padding,
            rope_precision=self.compute.rope_precision,
            memory=self.compute.memory,
            quantize=self.compute.quantize,
            compile=self.compute.compile,
            host=self.host,
            port=self.port,
            keys=read_keys(self.api_key_file),
            allow_host=_hosts(self.allow_host),
            allow_origin=_origins(self.allow_origin),
            max_batch_rows=self.max_batch_rows,
            max_batch_tokens=self.max_batch_tokens,
            max_queue=self.max_queue,
            max_n=self.max_n,
            max_references=self.max_references,
            max_pixels=self.max_pixels,
            images_per_minute=self.images_per_minute,
            deadline=self.deadline,
            grace=self.grace,
            unknown_fields=self.unknown_fields,
            metadata=self.metadata,
            sign=self.sign,
            page=not self.no_page,
            deterministic=self.deterministic,
            log_prompts=self.log_prompts,
        )


def parse_replicas(text: str) -> Replicas:
    """How many replicas: ``NUMBER`` or ``MIN:MAX``.

    Raises:
        UsageError: It is something else.
    """
    first, colon, last = text.partition(":")
    if first.isdecimal() and (last.isdecimal() if colon else not last):
        least, most = int(first), int(last or first)
        if 1 <= least <= most:
            return Replicas(least=least, most=most)
    raise UsageError(f"--ray must be a number of replicas or MIN:MAX, such as 1:4, got {text!r}")


def read_keys(path: Path | None) -> tuple[tuple[str, str], ...]:
    """Names and keys, of a file and of the environment.

    Raises:
        UsageError: The file cannot be read, or a key is too short.
    """
    keys = []
    if path is not None:
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise UsageError(
                f"--api-key-file {path} cannot be read ({reason_of(error)}); check the path"
            ) from None
        if is_readable_by_all(path):
            warnings.warn(
                f"every user of this machine can read the keys in {path}; run chmod 600 {path}",
                stacklevel=2,
            )
        for number, line in enumerate(map(str.strip, lines), start=1):
            if line and not line.startswith("#"):
                name, colon, key = line.rpartition(":")
                keys.append((name if colon else f"key {number}", key))
        if not keys:
            raise UsageError(f"--api-key-file {path} has no keys, expected one per line")
    if os.environ.get(KEY_VARIABLE):
        keys.append(("environment", os.environ[KEY_VARIABLE]))
    for name, key in keys:
        if len(key) < 16:
            raise UsageError(
                f"the API key named {name!r} has less than 16 characters; use a longer one"
            )
    return tuple(keys)


def _hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    for each in names:
        if ":" in each or "/" in each or "*" in each:
            raise UsageError(f"--allow-host {each}: expected a name such as images.example.org")
    return names


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for each in origins:
        if not each.startswith(("http://", "https://")) or "*" in each or each.endswith("/"):
            raise UsageError(
                f"--allow-origin {each}: expected an address such as https://example.org"
            )
    return origins
