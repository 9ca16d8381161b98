"""What may be wrong with samples that can be read: duplicates, contamination, edits that shift.

The measures of a data set are in ``measures.arrow`` beside its shards, one row per sample. They
decide nothing themselves: statistics count them, exports and mixtures leave them out on request.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from deepgen.data.dataset import DataSet
from deepgen.data.records import Record
from deepgen.data.shards import write_atomically
from deepgen.errors import DataError, ImageError
from deepgen.images.io import decode_image
from deepgen.threads import bounded_map

MEASURES = "measures.arrow"

IDENTITY = b"deepgen.identity"
"""Metadata key of the data set that was measured."""

MEASURED = b"deepgen.flags"
"""Metadata key of the flags that were measured."""

Flag = Literal["exact_duplicate", "near_duplicate", "contaminated", "misaligned"]

FLAGS: tuple[Flag, ...] = get_args(Flag)

HASH_SIDE = 16

HASH_WORDS = HASH_SIDE**2 // 64

NEAR_BITS = 15
"""Bits of 256 in which the hashes of near duplicates differ at most: scaling and compression change
a few, other images about 128."""

NEAR_COLOR = 12
"""Largest difference of the mean of a channel, of 255: hashes see no colours."""

BANDS = NEAR_BITS + 1
"""Of hashes that differ in fewer bits than there are bands, at least one band is equal."""

MAX_CANDIDATES = 64
"""Samples of one band that a sample is compared with: flat images share most bands."""

FRAME = 128
"""Side in pixels at which reference and target are compared."""

MAX_SHIFT = 1.5 / FRAME
"""Shift, as a fraction of the side, up to which an edit counts as aligned."""

MIN_PEAK = 0.1
"""Height of a correlation peak that says anything; of unrelated images it is about 0.03."""

MAX_ASPECT_DIFFERENCE = 0.02
"""Relative difference of the aspect ratios of a pair; resized, the images no longer coincide."""

Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """One sample, decoded."""

    bits: Bits
    """Difference hash of the target."""
    color: npt.NDArray[np.float64]
    """Mean of its channels."""
    shift: tuple[float, float] | None
    """(down, right) from the first reference to the target, as fractions; None where not known."""


SCHEMA = pa.schema(
    [
        ("exact_duplicate", pa.string()),
        ("near_duplicate", pa.string()),
        ("contaminated", pa.string()),
        ("misaligned", pa.string()),
    ]
)
"""One column per flag: what the sample duplicates, is found in, or how far it is off; or null."""


def measure(
    data: DataSet,
    find_benchmark: Callable[[Sequence[str]], str | None] | None,
    *,
    workers: int | None = None,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Measure all samples, and write the measures beside the data set.

    A duplicate names the earlier sample. Exact ones have the same images to the byte, by the hashes
    of the index; near ones of the same task have targets that look the same, by difference hashes.

    Args:
        find_benchmark: Gives the benchmark item that is among the prompts of a sample, or None.
            Without it contamination is not measured.

    Returns:
        Samples by flag.
    """
    workers = workers or min(os.cpu_count() or 1, 8)
    seen: dict[str, str] = {}
    hashes: dict[tuple[str, ...], NearHashes] = defaultdict(NearHashes)
    rows: list[dict[str, str | None]] = []
    looked = bounded_map(lambda row: _fingerprint(data, row), range(len(data)), workers=workers)
    for record, found in looked:
        content = " ".join(each.hash for each in record.images)
        texts = [each.text for each in record.prompts]
        exact = seen.setdefault(content, record.sample_id)
        exact_of = None if exact == record.sample_id else exact
        near = None
        if found is not None:
            # Images of other texts look alike at 16 x 16 pixels.
            alike = hashes[(record.task, *record.render_text)]
            near = alike.add(record.sample_id, found.bits, found.color)
        rows.append(
            {
                "exact_duplicate": exact_of,
                "near_duplicate": None if exact_of is not None else near,
                "contaminated": None if find_benchmark is None else find_benchmark(texts),
                "misaligned": None if found is None else _misalignment(record, found),
            }
        )
        watch()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    flags = [each for each in FLAGS if each != "contaminated" or find_benchmark is not None]
    table = table.replace_schema_metadata(
        {IDENTITY: data.manifest.identity.encode(), MEASURED: " ".join(flags).encode()}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    write_atomically(data.folder / MEASURES, [sink.getvalue().to_pybytes()])
    return _counts(table)


def flag_counts(data: DataSet) -> dict[str, int]:
    """Samples by flag, of those that a mixture uses; empty if any part was not measured."""
    tables = [read_measures(part) for part, _ in data.parts]
    measured = [set() if table is None else set(_measured(table)) for table in tables]
    return {
        flag: int((flagged(data, [flag]) & data.used).sum())
        for flag in FLAGS
        if all(flag in each for each in measured)
    }


def _counts(table: pa.Table) -> dict[str, int]:
    return {name: len(table) - table[name].null_count for name in _measured(table)}


def _measured(table: pa.Table) -> list[str]:
    stated: str = (table.schema.metadata or {}).get(MEASURED, b"").decode()
    return stated.split()


def read_measures(data: DataSet) -> pa.Table | None:
    """The measures of a data set; None if it was not measured.

    Raises:
        DataError: They cannot be read, or are those of another data set.
    """
    path = data.folder / MEASURES
    if not path.is_file():
        return None
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            table = reader.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and measure again") from None
    stated = (table.schema.metadata or {}).get(IDENTITY, b"").decode()
    if stated != data.manifest.identity or len(table) != len(data):
        raise DataError(f"{path} belongs to other data; delete it and measure again")
    return table


def flagged(data: DataSet, flags: Sequence[Flag]) -> npt.NDArray[np.bool_]:
    """Which samples have any of these flags.

    Raises:
        DataError: The data set, one that a mixture has, or one of the flags, was not measured.
    """
    return np.concatenate([_flagged(part, flags) for part, _ in data.parts])


def _flagged(data: DataSet, flags: Sequence[Flag]) -> npt.NDArray[np.bool_]:
    table = read_measures(data)
    if table is None or not set(flags) <= set(_measured(table)):
        raise DataError(
            f"{data.folder} was not measured for {' and '.join(flags)}; run deepgen data check "
            f"{data.folder} --measure"
            + (", after deepgen eval fetch" if "contaminated" in flags else "")
        )
    chosen = np.zeros(len(data), dtype=bool)
    for flag in flags:
        chosen |= pc.is_valid(table[flag]).to_numpy()
    return chosen


def flags_by_row(data: DataSet) -> Mapping[int, list[str]]:
    """The flags of the samples that have any; empty if the data set was not measured."""
    found: dict[int, list[str]] = defaultdict(list)
    for part, first in data.parts:
        table = read_measures(part)
        if table is None:
            continue
        for flag in FLAGS:
            for row in np.flatnonzero(pc.is_valid(table[flag]).to_numpy()).tolist():
                found[first + row].append(flag)
    return found


class NearHashes:
    """Difference hashes of the samples so far, found again by the bands that are equal."""

    def __init__(self) -> None:
        self._bits: list[Bits] = []
        self._colors: list[npt.NDArray[np.float64]] = []
        self._names: list[str] = []
        self._holders: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, name: str, bits: Bits, color: npt.NDArray[np.float64]) -> str | None:
        """Add a sample; returns the name of an earlier one that looks the same."""
        bands = list(enumerate(bits.view(np.uint16).tolist()))
        near = sorted({each for band in bands for each in self._holders[band]})
        found = None
        if near:
            others = np.stack([self._bits[each] for each in near])
            distances = np.bitwise_count(others ^ bits).sum(axis=1)
            colors = np.abs(np.stack([self._colors[each] for each in near]) - color).max(axis=1)
            fitting = np.flatnonzero((distances <= NEAR_BITS) & (colors <= NEAR_COLOR))
            found = self._names[near[int(fitting[0])]] if len(fitting) else None
        if found is None:
            # Only the first of several that look the same is kept.
            number = len(self._names)
            self._names.append(name)
            self._bits.append(bits)
            self._colors.append(color)
            for band in bands:
                if len(self._holders[band]) < MAX_CANDIDATES:
                    self._holders[band].append(number)
        return found


def _fingerprint(data: DataSet, row: int) -> tuple[Record, Fingerprint | None]:
    """A sample, and what is measured of its images; None if one is damaged, which ``data check``
    reports."""
    record = data.record(row)
    try:
        target = decode_image(data.read(record.target))
        shift = None
        if record.references:
            reference = decode_image(data.read(record.references[0]))
            shift = shift_between(reference, target)
    except (ImageError, OSError):
        return record, None
    color = np.asarray(target.resize((8, 8), Image.Resampling.BOX), dtype=float).mean(axis=(0, 1))
    return record, Fingerprint(bits=difference_hash(target), color=color, shift=shift)


def difference_hash(image: Image.Image) -> Bits:
    """Whether each of 16 x 16 pixels is darker than its right neighbour: 256 bits.

    Nearly the same after scaling, compression and changes of brightness (Krawetz 2013).
    """
    size = (HASH_SIDE + 1, HASH_SIDE)
    small = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def shift_between(first: Image.Image, second: Image.Image) -> tuple[float, float] | None:
    """How far the second image is shifted, (down, right) as fractions of the sides.

    Phase correlation (Kuglin and Hines 1975): the inverse transform of the phases' difference has
    its peak at the shift. None where no peak stands out, as after changes of the whole image.
    """
    window = np.outer(np.hanning(FRAME), np.hanning(FRAME))
    spectra = []
    for image in (first, second):
        gray = image.convert("L").resize((FRAME, FRAME), Image.Resampling.BOX)
        values = np.asarray(gray, dtype=float)
        spectra.append(np.fft.fft2((values - values.mean()) * window))
    cross = np.conj(spectra[0]) * spectra[1]
    correlation = np.fft.ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real
    peak = int(correlation.argmax())
    if correlation.flat[peak] < MIN_PEAK:
        return None
    down, right = divmod(peak, FRAME)
    wrapped = [each - FRAME if each > FRAME // 2 else each for each in (down, right)]
    return wrapped[0] / FRAME, wrapped[1] / FRAME


def _misalignment(record: Record, found: Fingerprint) -> str | None:
    """How an edit's target does not lie on its first reference, in words; None if it does."""
    if not record.references:
        return None
    aspects = [each.width / each.height for each in (record.references[0], record.target)]
    if abs(aspects[1] / aspects[0] - 1) > MAX_ASPECT_DIFFERENCE:
        sizes = [f"{each.width} x {each.height}" for each in (record.references[0], record.target)]
        return f"size {sizes[0]} to {sizes[1]}"
    if found.shift is not None and max(map(abs, found.shift)) > MAX_SHIFT:
        return f"shift {found.shift[0]:+.3f} down, {found.shift[1]:+.3f} right"
    return None
