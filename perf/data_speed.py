"""Import and loader against reading the same tars with ``webdataset``: 512 px JPEG, two workers.

``PYTHONPATH=. python perf/data_speed.py``, with ``pip install webdataset``; the record is
``perf/results/data_speed.json``. Both sides decode every image to the same values; ours also checks
the hash of each, and its order and position are a function of the step.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from measure import alternate, compare, environment, write
from PIL import Image, ImageFilter

from deepgen.data.dataset import DataSet
from deepgen.data.importers.registry import open_source
from deepgen.data.importers.source import SourceOptions
from deepgen.data.importing import ImportOptions, import_source
from deepgen.data.loader import Loader, LoaderOptions, TaskPlan
from deepgen.data.parallel import Processes
from tests.data.importers.published_sets import tar

WORKERS = 2
SIDE = 512
BATCH = 4


def main() -> None:
    """Make the tars, time all sides in turn, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = make_tars(root / "tars", arguments.images)
        imported(root / "tars", root / "data", None)
        numbers = count()

        def again(executor: Any) -> None:
            target = root / f"import{next(numbers)}"
            imported(root / "tars", target, executor)
            shutil.rmtree(target)

        seconds = alternate(
            {
                "webdataset": lambda: read_webdataset(root / "data", arguments.images),
                "loader": lambda: read_loader(root / "data", arguments.images),
                "import_threads": lambda: again(None),
                "import_processes": lambda: again(Processes(WORKERS)),
            },
            arguments.repeats,
        )
    result = compare(seconds, "webdataset")
    medians = result["median_seconds"]
    write(
        "data_speed",
        {
            "environment": environment(),
            "images": arguments.images,
            "mean_bytes": size // arguments.images,
            "workers": WORKERS,
            "images_per_second": {k: round(arguments.images / v, 1) for k, v in medians.items()},
            "throughput_of_webdataset": {
                name: round(medians["webdataset"] / each, 3)
                for name, each in medians.items()
                if name != "webdataset"
            },
            **result,
        },
    )


def make_tars(root: Path, images: int) -> int:
    """Tars of 512 px JPEGs with captions, about as large as photographs; returns their bytes."""
    total = 0
    for shard in range(4):
        files: dict[str, bytes | str] = {}
        for number in range(shard, images, 4):
            content = photograph(number)
            total += len(content)
            files |= {f"{number:06d}.jpg": content, f"{number:06d}.txt": f"caption {number}"}
        tar(root / f"{shard:05d}.tar", files)
    return total


def photograph(number: int) -> bytes:
    """Noise with the spectrum of a photograph: detail at all scales."""
    from io import BytesIO

    rng = np.random.default_rng(number)
    whole = np.zeros((SIDE, SIDE, 3))
    for cells in (4, 16, 64, 256):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        grown = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        whole += np.asarray(grown, dtype=np.float64) / 4
    content = BytesIO()
    image = Image.fromarray(whole.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
    image.save(content, "JPEG", quality=92)
    return content.getvalue()


def imported(source: Path, target: Path, executor: Any) -> None:
    """Import the tars, by two threads or two processes."""
    import_source(
        open_source("webdataset", source, SourceOptions()),
        target,
        ImportOptions(name="set", shard_bytes=64 << 20),
        workers=WORKERS,
        executor=executor,
    )


def read_webdataset(folder: Path, images: int) -> None:
    """All images once, decoded in two processes and batched."""
    import webdataset

    urls = sorted(map(str, folder.glob("*.tar")))
    data = (
        webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
        .decode("torchrgb")
        .to_tuple("jpg", "txt")
        .map(lambda pair: (pair[0] * 2 - 1, pair[1]))
        .batched(BATCH)
    )
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=WORKERS)
    assert sum(len(texts) for _, texts in loader) == images


def read_loader(folder: Path, images: int) -> None:
    """As many samples in the order of a training, decoded by two threads."""
    plan = TaskPlan(microbatch_size=BATCH, microbatches=1)
    options = LoaderOptions(tasks={"t2i": plan}, seed=0, side=SIDE, workers=WORKERS, prefetch=4)
    stream = Loader(DataSet.open(folder), options).stream()
    for _ in range(images // BATCH):
        (batch,) = next(stream)
        assert all(each.target is not None for each in batch.samples)
    stream.close()


if __name__ == "__main__":
    main()
