import time

import pytest
import torch

from deepgen.train.monitor.peaks import peak_rate
from deepgen.train.monitor.speed import (
    Clock,
    DeviceRates,
    SlowDataAlarm,
    Speed,
    measure_matrix_rate,
    peak_memory_gib,
)
from deepgen.train.parallel.distributed import Processes

PAUSE = 0.05


def test_the_time_of_a_phase_within_another_counts_once() -> None:
    clock = Clock()
    clock.take()
    with clock.phase("data"):
        time.sleep(PAUSE)
        with clock.phase("encode"):
            time.sleep(2 * PAUSE)
        time.sleep(PAUSE)
    time.sleep(PAUSE)
    seconds = clock.take()
    assert seconds["encode"] >= 2 * PAUSE
    assert seconds["data"] >= 2 * PAUSE
    assert seconds["other"] >= PAUSE
    # What is counted twice would make the sum half as large again.
    assert seconds["data"] < seconds["encode"] + PAUSE
    assert set(clock.take()) == {"other"}


def test_a_phase_ends_where_its_work_fails() -> None:
    clock = Clock()
    with pytest.raises(OSError), clock.phase("data"):
        raise OSError
    clock.take()
    time.sleep(PAUSE)
    assert set(clock.take()) == {"other"}


def test_a_line_has_rates_and_shares_of_the_peak_and_of_the_measured_rate() -> None:
    clock = Clock()
    speed = Speed(clock, rates=DeviceRates(peak=1000.0, measured=800.0))
    for _ in range(2):
        with clock.phase("data"):
            time.sleep(PAUSE)
        speed.add({"images": 3.0, "flops": 10.0})
    line = speed.line()
    assert 0 < line["steps_per_second"] <= 1 / PAUSE
    assert line["images_per_second"] == pytest.approx(3 * line["steps_per_second"])
    assert line["mfu"] == pytest.approx(10 * line["steps_per_second"] / 1000)
    assert line["matmul_utilization"] == pytest.approx(10 * line["steps_per_second"] / 800)
    assert line["data_wait"] == line["time"]["data"] > 0.5
    assert sum(line["time"].values()) == pytest.approx(1)
    assert line["peak_memory_gib"] > 0.01
    again = speed.line()
    assert again["steps_per_second"] == 0
    assert "images_per_second" not in again


class Two(Processes):
    """Two processes, of which the other has said something else."""

    def gather(self, fact):  # type: ignore[no-untyped-def]
        _, _, rates, peak = fact
        return [fact, ({"flops": 30.0}, 0.9, rates, peak + 1)]


def test_of_several_processes_work_adds_up_and_the_worst_wait_counts() -> None:
    speed = Speed(Clock(), Two(), DeviceRates(peak=1000.0))
    speed.add({"flops": 10.0})
    time.sleep(PAUSE)
    line = speed.line()
    assert line["mfu"] == pytest.approx(40 * line["steps_per_second"] / 2000)
    assert line["data_wait"] == 0.9
    assert line["peak_memory_gib"] > 1


def test_without_a_known_peak_there_is_no_mfu() -> None:
    speed = Speed(Clock(), rates=DeviceRates(measured=1000.0))
    speed.add({"flops": 1.0})
    line = speed.line()
    assert "mfu" not in line and line["matmul_utilization"] > 0


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100-PCIE-40GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H20", 148.0),
        ("AMD Instinct MI300X", 1307.4),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_the_peak_rate_is_that_of_the_whole_card_by_its_datasheet(
    name: str, tflops: float | None
) -> None:
    assert peak_rate(name) == (None if tflops is None else 1e12 * tflops)


def test_a_run_that_waits_too_long_is_told_once_and_not_for_its_first_samples() -> None:
    alarm = SlowDataAlarm()
    assert alarm.add(100, 1.0) is None
    assert alarm.add(40, 0.01) is None
    assert alarm.add(40, 0.03) is None
    assert alarm.add(25, 0.0) is None
    assert alarm.add(25, 0.2) == pytest.approx(0.1)
    assert alarm.add(100, 1.0) is None


def test_the_matrix_rate_is_that_of_products_and_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    rate = measure_matrix_rate(torch.device("cpu"), torch.float32)
    assert 1e8 < rate < 1e14
    assert torch.equal(torch.get_rng_state(), state)
    factor = torch.randn(512, 512)
    factor @ factor
    start = time.perf_counter()
    factor @ factor
    assert 2 * 512**3 / (time.perf_counter() - start) < 5 * rate


def test_memory_only_rises() -> None:
    before = peak_memory_gib()
    assert before is not None
    hog = torch.ones(2**28, dtype=torch.uint8)
    after = peak_memory_gib()
    assert after is not None and after >= before
    del hog
    assert peak_memory_gib() == pytest.approx(after, rel=0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_cuda_a_phase_lasts_as_long_as_its_work() -> None:
    device = torch.device("cuda")
    clock = Clock(device)
    factor = torch.randn(4096, 4096, device=device)
    factor @ factor
    clock.take()
    with clock.phase("forward"):
        for _ in range(50):
            factor @ factor
    with clock.phase("data"):
        torch.cuda.synchronize()
        time.sleep(PAUSE)
    seconds = clock.take()
    assert seconds["forward"] > 50 * 2 * 4096**3 / 2e15
    assert PAUSE <= seconds["data"] < PAUSE + seconds["forward"]
