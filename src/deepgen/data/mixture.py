"""Mixtures: several data sets trained on as one, with weights by source and task.

A mixture is a small YAML file beside the folders of its data sets. Opened, it is a data set whose
rows are those of all members, so everything that reads one reads it; only the order differs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from deepgen.config.decoding import decode
from deepgen.data.dataset import DataSet, DataSetManifest
from deepgen.data.measures import FLAGS, flagged
from deepgen.data.mixed_order import SMALLEST, MixedOrder, Share
from deepgen.data.order import EpochOrder
from deepgen.data.records import TASKS, ImageRef, Split, Task
from deepgen.errors import DataError
from deepgen.reading import read_yaml

SUFFIXES = (".yaml", ".yml")

MAX_PASSES = 8.0
"""Passes over a source in one run beyond which a model learns its samples by heart."""

SHOWN_VALUES = 20
"""Licences or skills that a message lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureSource:
    """One data set of a mixture."""

    data: str
    """Folder of the data set, relative to the file of the mixture."""
    task: Task | None = None
    """Only its samples of this task; None means all."""
    weight: float | None = None
    """Relative to the weights of the other sources of its task; None means by size."""
    repeat: float = 1.0
    """Passes over this source for each pass over one with 1; only by size."""
    exclude: tuple[str, ...] = ()
    """Samples with one of these skills, or flags of ``data check --measure``, are left out."""
    licences: tuple[str, ...] = ()
    """Only samples with one of these licences; empty means any."""
    optional: bool = False
    """Whether the mixture is used without it where it is absent or has no samples left."""

    def __post_init__(self) -> None:
        for name in ("weight", "repeat"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(
                    f"{self.data}: {name} must be a number above 0, got {value}; remove the source "
                    "to leave it out"
                )
        if self.weight is not None and self.repeat != 1:
            raise ValueError(f"{self.data}: weight and repeat exclude each other")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """What a mixture's file states."""

    sources: tuple[MixtureSource, ...]
    ratio: dict[Task, int] = field(default_factory=dict)
    """Micro-batches of each task for one another, where the mixture has both."""
    max_passes: float = MAX_PASSES
    """Runs that would pass over a source more often are refused."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("a mixture needs sources")
        for task, count in self.ratio.items():
            if count < 1:
                raise ValueError(f"ratio: {task} must be at least 1, got {count}")
        if not self.max_passes > 0:
            raise ValueError(f"max_passes must be above 0, got {self.max_passes}")
        seen: set[tuple[str, Task]] = set()
        for each in self.sources:
            for task in (each.task,) if each.task else TASKS:
                if (each.data, task) in seen:
                    raise ValueError(f"{each.data} is there twice for task {task}")
                seen.add((each.data, task))


def read_mixture(path: Path) -> Mixture:
    """The mixture of a file.

    Raises:
        DataError: The file cannot be read, or says something impossible.
    """
    try:
        return decode(Mixture, read_yaml(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path} is not a mixture: {error}") from None


def open_data(path: Path) -> DataSet:
    """The data set in a folder, or that of a mixture's file.

    Raises:
        DataError: There is none, or one of its members is missing.
    """
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return MixedData.from_file(path)
    return DataSet.open(path)


class MixedData(DataSet):
    """The data sets of a mixture as one; use :func:`open_data`."""

    def __init__(
        self, path: Path, mixture: Mixture, members: Mapping[str, DataSet], absent: Sequence[str]
    ) -> None:
        self.mixture = mixture
        self.members = dict(members)
        self.absent = list(absent)
        """Optional data sets that are not there."""
        self._by_name = {each.manifest.name: each for each in self.members.values()}
        if len(self._by_name) < len(self.members):
            names = ", ".join(f"{key} is {each.manifest.name}" for key, each in members.items())
            raise DataError(
                f"{path}: data sets of one mixture need different names ({names}); import again "
                "with --name"
            )
        tables = [each.table for each in self.members.values()]
        states = {key: each.manifest.identity for key, each in self.members.items()}
        starts = np.cumsum([0, *(len(each) for each in self.members.values())]).tolist()
        self.first_rows = dict(zip(self.members, starts, strict=False))
        """Number of the first row of each member."""
        self._usable = {task: self._rows_of_sources(task) for task in TASKS}
        self._check_used(path)
        content = json.dumps([states, asdict(mixture)["sources"]], sort_keys=True)
        digest = blake2b(content.encode(), digest_size=16)
        # What flags leave out changes where a member is measured again.
        for usable in self._usable.values():
            for rows in usable.values():
                digest.update(rows.data)
        identity = digest.hexdigest()
        manifest = DataSetManifest(
            name=path.stem, revision=identity, complete=True, identity=identity
        )
        super().__init__(path, manifest, pa.concat_tables(tables))

    @classmethod
    def from_file(cls, path: Path) -> MixedData:
        """Open all members of a mixture.

        Raises:
            DataError: One that is not optional is missing, or the file is not a mixture.
        """
        mixture = read_mixture(path)
        members: dict[str, DataSet] = {}
        absent: list[str] = []
        missing: list[str] = []
        for each in mixture.sources:
            if each.data in members or each.data in absent or each.data in missing:
                continue
            folder = path.parent / each.data
            if folder.exists():
                members[each.data] = DataSet.open(folder)
            else:
                (absent if each.optional else missing).append(each.data)
        if missing:
            raise DataError(
                f"{path} names {', '.join(missing)}, which {path.parent} does not hold; import "
                f"them there with deepgen data import, or remove them from the mixture"
            )
        if not members:
            raise DataError(f"none of the data sets that {path} names is in {path.parent}")
        if absent:
            names = ", ".join(absent)
            message = f"optional sources of {path.name} skipped, not in {path.parent}: {names}"
            warnings.warn(message, stacklevel=3)
        return cls(path, mixture, members, absent)

    @property
    def parts(self) -> list[tuple[DataSet, int]]:
        """The members with the numbers of their first rows."""
        return [(each, self.first_rows[key]) for key, each in self.members.items()]

    def rows(
        self, *, task: Task | None = None, split: Split | None = None
    ) -> npt.NDArray[np.int64]:
        """Row numbers of a task and a split that the mixture uses, ascending."""
        tasks = TASKS if task is None else (task,)
        used = [rows for each in tasks for rows in self._usable[each].values()]
        found = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *used]))
        if split is None:
            return found
        return np.intersect1d(found, super().rows(split=split), assume_unique=True)

    def read(self, image: ImageRef) -> bytes:
        """The bytes of an image, unchanged from the user's file.

        Raises:
            ImageError: The shard ends too early.
            OSError: The shard cannot be read.
        """
        return self._by_name[image.shard.rpartition("-")[0]].read(image)

    def order(self, rows: npt.NDArray[np.int64], *, seed: int, task: Task) -> EpochOrder:
        """The endless order of the training samples of a task, with the mixture's shares."""
        return MixedOrder(self.shares(task), seed=seed, name=task, wanted=rows)

    def shares(self, task: Task) -> list[Share]:
        """The sources of a task with their training samples and their shares of it, which sum to 1.

        Raises:
            DataError: Some sources have weights and others none.
        """
        train = super().rows(split="train")
        found = []
        for each in self.mixture.sources:
            rows = self._usable[task].get(each.data)
            if rows is None or (each.task is not None and each.task != task):
                continue
            rows = np.intersect1d(rows, train, assume_unique=True)
            if len(rows):
                found.append((each, rows))
        weighted = [each.data for each, _ in found if each.weight is not None]
        if weighted and len(weighted) < len(found):
            others = ", ".join(each.data for each, _ in found if each.weight is None)
            raise DataError(
                f"{self.folder}: of the sources of task {task}, {', '.join(weighted)} have a "
                f"weight and {others} have none; give all of them one, or none"
            )
        weights = [
            each.repeat * len(rows) if each.weight is None else each.weight for each, rows in found
        ]
        total = sum(weights)
        return [
            Share(source=each.data, rows=rows, share=weight / total)
            for (each, rows), weight in zip(found, weights, strict=True)
        ]

    def check_passes(self, samples: Mapping[Task, int]) -> None:
        """Refuse a run that would see a source too often.

        Args:
            samples: Of the whole run, by task.

        Raises:
            DataError: It would.
        """
        for message in self.too_many_passes(samples):
            raise DataError(message)

    def too_many_passes(self, samples: Mapping[Task, int]) -> list[str]:
        """For each source that a run of so many samples would see too often, a message."""
        most = self.mixture.max_passes
        found = []
        for task, count in samples.items():
            for each in self.shares(task):
                passes = max(each.share, SMALLEST) * count / len(each.rows)
                if passes > most:
                    found.append(
                        f"this run would pass {passes:.2f} times over the {len(each.rows):,} "
                        f"{task} samples of {each.source}, at most {most:g} are allowed; add data, "
                        f"train for fewer steps, or raise max_passes in {self.folder}"
                    )
        return found

    def check_ratio(self, microbatches: Mapping[Task, int]) -> None:
        """Refuse a step whose tasks do not have the mixture's ratio.

        Raises:
            ValueError: They do not.
        """
        wanted = self.mixture.ratio
        if set(wanted) != set(microbatches) or len(wanted) < 2:
            return
        first, second = sorted(wanted)
        if wanted[first] * microbatches[second] != wanted[second] * microbatches[first]:
            raise ValueError(
                f"{self.folder} has {wanted['t2i']} text-to-image to {wanted['edit']} editing "
                f"micro-batches, this run {microbatches['t2i']} to {microbatches['edit']}; use "
                "--t2i-microbatches and --edit-microbatches, or change the ratio in that file"
            )

    def split_samples(self, samples: int) -> dict[Task, int]:
        """How many of some samples are of each task, by the ratio of the mixture; none is lost."""
        ratio = {task: self.mixture.ratio.get(task, 1) for task in TASKS if self.shares(task)}
        ends = [samples * each // sum(ratio.values()) for each in accumulate(ratio.values())]
        return {
            task: end - start
            for task, (start, end) in zip(ratio, pairwise([0, *ends]), strict=True)
        }

    def seen(self, samples: Mapping[Task, int], *, seed: int = 0) -> list[dict[str, Any]]:
        """What a run of so many samples sees of each source, from the order that it will have.

        Returns:
            For each task and source: ``task``, ``source``, ``samples``, the ``share`` that the
            mixture states, the samples ``seen``, and ``passes`` over the source.
        """
        found = []
        for task, count in samples.items():
            shares = self.shares(task)
            if not shares or not count:
                continue
            order = MixedOrder(
                shares, seed=seed, name=task, wanted=np.concatenate([s.rows for s in shares])
            )
            seen = order.seen(count)
            for each in shares:
                found.append(
                    {
                        "task": task,
                        "source": each.source,
                        "samples": len(each.rows),
                        "share": each.share,
                        "seen": seen[each.source],
                        "passes": seen[each.source] / len(each.rows),
                    }
                )
        return found

    def _check_used(self, path: Path) -> None:
        """Refuse sources without samples, and names to exclude that no sample has.

        Raises:
            DataError: A source that is not optional has none, or a name is unknown.
        """
        for each in self.mixture.sources:
            data = self.members.get(each.data)
            if data is None:
                continue
            skills = pc.unique(pc.list_flatten(data.table["skills"])).to_pylist()
            unknown = [name for name in each.exclude if name not in (*FLAGS, *skills)]
            if unknown:
                raise DataError(
                    f"{path}: exclude of {each.data} names {', '.join(unknown)}, which is neither "
                    f"a skill of its samples ({_listed(skills)}) nor a flag ({', '.join(FLAGS)}); "
                    "correct or remove it"
                )
            tasks = TASKS if each.task is None else (each.task,)
            if any(len(self._usable[task][each.data]) for task in tasks):
                continue
            licences = pc.unique(data.table["licence"]).to_pylist()
            message = (
                f"{path}: no sample of {each.data} is left; it has the tasks "
                f"{', '.join(data.tasks)}; the licences {_listed(licences)}; the skills "
                f"{_listed(skills)}. Correct task, licences or exclude of this source, or remove it"
            )
            if not each.optional:
                raise DataError(message)
            warnings.warn(message, stacklevel=5)

    def _rows_of_sources(self, task: Task) -> dict[str, npt.NDArray[np.int64]]:
        """Rows of a task, by the source that they are used as."""
        found = {}
        for each in self.mixture.sources:
            data = self.members.get(each.data)
            if data is None or each.task not in (None, task):
                continue
            rows = data.rows(task=task)
            if each.exclude:
                rows = rows[~_has_any(data.table["skills"], each.exclude)[rows]]
                flags = [flag for flag in FLAGS if flag in each.exclude]
                if flags:
                    rows = rows[~flagged(data, flags)[rows]]
            if each.licences:
                allowed = pc.is_in(data.table["licence"], value_set=pa.array(each.licences))
                rows = rows[allowed.to_numpy()[rows]]
            found[each.data] = rows + self.first_rows[each.data]
        return found


def _listed(values: Sequence[str]) -> str:
    """Quoted values, the first of many."""
    shown = ", ".join(repr(each) for each in sorted(values)[:SHOWN_VALUES])
    rest = len(values) - SHOWN_VALUES
    return f"{shown} and {rest} more" if rest > 0 else shown


def _has_any(skills: pa.ChunkedArray, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows have one of these skills."""
    found = np.zeros(len(skills), dtype=bool)
    values = pc.is_in(pc.list_flatten(skills), value_set=pa.array(wanted)).to_numpy()
    parents: Any = pc.list_parent_indices(skills).to_numpy()
    found[parents[values]] = True
    return found
