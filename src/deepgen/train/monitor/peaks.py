"""Peak rates of usual cards, from their makers' datasheets."""

from __future__ import annotations

import re

TFLOPS = {
    r"NVIDIA A100[- ].*GB( PCIe)?": 312.0,
    r"NVIDIA A800[- ].*GB( PCIe)?": 312.0,
    r"NVIDIA A10": 125.0,
    r"NVIDIA A30": 165.0,
    r"NVIDIA A40": 149.7,
    r"NVIDIA RTX A6000": 154.8,
    r"NVIDIA L4": 121.0,
    r"NVIDIA L40": 181.0,
    r"NVIDIA L40S": 362.0,
    r"NVIDIA RTX 6000 Ada Generation": 364.2,
    r"NVIDIA GeForce RTX 3090": 71.0,
    r"NVIDIA GeForce RTX 4090": 165.2,
    r"NVIDIA GeForce RTX 5090": 209.5,
    r"NVIDIA H100 PCIe": 756.0,
    r"NVIDIA H100 NVL": 835.0,
    r"NVIDIA H[18]00( SXM5)?( \d+GB HBM3)?": 989.4,
    r"NVIDIA GH200 .*": 989.4,
    r"NVIDIA H200": 989.4,
    r"NVIDIA H200 NVL": 835.0,
    r"NVIDIA H20": 148.0,
    r"NVIDIA B200": 2250.0,
    r"NVIDIA GB200": 2500.0,
    r"AMD Instinct MI250X.*": 383.0,
    r"AMD Instinct MI3(00|25)X": 1307.4,
}
"""10^12 operations per second of dense bfloat16 products with float32 sums, without sparsity, by a
pattern of the name that torch reports. Parts of a card (MIG) have other names and are not known."""


def peak_rate(name: str) -> float | None:
    """Floating-point operations per second of dense bfloat16 matrix products, at most.

    Args:
        name: Of a GPU, from ``torch.cuda.get_device_name``.

    Returns:
        None for a card that is not in the table.
    """
    if " MIG " in name:
        return None
    found = (rate for pattern, rate in TFLOPS.items() if re.fullmatch(pattern, name))
    return next((1e12 * rate for rate in found), None)
