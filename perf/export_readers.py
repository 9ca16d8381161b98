"""What the usual readers make of an export: webdataset, and datasets (Parquet and imagefolder).

    python perf/export_readers.py DATA

DATA is a data set. Every sample is read by each, and its images compared byte for byte with those
of the data set. Needs ``pip install webdataset datasets``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import environment, write

from deepgen.data.dataset import DataSet
from deepgen.data.exporting import ExportOptions, export


def main() -> None:
    """Export in each form, read, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = DataSet.open(parser.parse_args().data)
    import datasets
    import webdataset

    record: dict[str, Any] = {"environment": environment(), "samples": len(data)}
    record |= {name: version(name) for name in ("webdataset", "datasets")}
    wanted = []
    for row in range(len(data)):
        each = data.record(row)
        images = [data.read(image) for image in each.images]
        wanted.append((each.sample_id, each.prompts[0].text, images))
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for form in ("webdataset", "parquet", "folder"):
            folders[form] = Path(scratch) / form
            export(data, folders[form], ExportOptions(format=form, restricted="include"))
        tars = [str(each) for each in sorted(folders["webdataset"].glob("*.tar"))]
        found = []
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            keys = [key for key in sample if not key.startswith("_") and key not in ("txt", "json")]
            ordered = sorted(keys, key=lambda key: ("reference" in key, key))
            facts = json.loads(sample["json"])
            texts = sample["txt"].decode()
            found.append((facts["sample_id"], texts, [sample[key] for key in ordered]))
        record["webdataset_equal"] = found == wanted
        files = [str(each) for each in sorted(folders["parquet"].glob("*.parquet"))]
        table = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=f"{scratch}/cache"
        )
        record["parquet_features"] = {key: str(table.features[key]) for key in table.features}
        plain = table.cast_column("image", datasets.Image(decode=False))
        bare = datasets.List(datasets.Image(decode=False))
        plain = plain.cast_column("references", bare)
        found = [
            (row["sample_id"], row["text"], [row["image"]["bytes"]])
            for row in plain.select_columns(["sample_id", "text", "image"])
        ]
        record["parquet_equal"] = found == [(a, b, c[:1]) for a, b, c in wanted]
        record["parquet_references_equal"] = [
            [each["bytes"] for each in row["references"]] for row in plain
        ] == [c[1:] for _, _, c in wanted]
        record["parquet_decodes_to"] = str(type(table[0]["image"]))
        listed = datasets.load_dataset(
            "imagefolder", data_dir=str(folders["folder"]), split="train", cache_dir=f"{scratch}/c2"
        )
        record["imagefolder_columns"] = sorted(listed.features)
        record["imagefolder_equal"] = [
            (row["sample_id"], row["text"]) for row in listed.remove_columns(["image"])
        ] == [(a, b) for a, b, _ in wanted]
    write("export_readers", record)


if __name__ == "__main__":
    main()
