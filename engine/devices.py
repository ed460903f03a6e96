"""What models run on here: whether it is a GPU, its name, the memory and the energy that a training took, where they can be read."""

import math
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")  # Linux: energy of the processors' packages in microjoules, readable by root alone on most machines


def kind() -> str:
    """What torch is to run models on here, in its words: "cuda", which is the first GPU that this process sees, or "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device() -> str:
    """What a training runs on here, by name: the GPU, or the processors in its place."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors {model}, no GPU"


def peak_gb() -> float:
    """The most memory of the GPU that tensors of this process took, in 10^9 bytes; 0 without one."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


class Energy:
    """Joules that the GPU of this process takes or, without one, the processors of the machine; nan where nothing tells.

    Counters of processors begin anew after minutes at full power, so `read` is to be called more often than that.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.counters = gpu_counters() if torch.cuda.is_available() else package_counters(powercap)
        self.last = [count() for count, _ in self.counters]

    def read(self) -> float:
        """Joules since the last time, or since this object was made."""
        before, self.last = self.last, [count() for count, _ in self.counters]
        taken = [(now - then) % turn for now, then, (_, turn) in zip(self.last, before, self.counters, strict=True)]
        return sum(taken) if taken else math.nan


Counter = tuple[Callable[[], float], float]  # joules, and at how many it begins anew


def package_counters(powercap: Path) -> list[Counter]:
    """One for every package, without its parts; none where one cannot be read."""
    try:
        return [package_counter(zone) for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    except OSError:
        return []


def package_counter(zone: Path) -> Counter:
    """Reads joules from a RAPL zone, and those at which it begins anew; OSError where it must not be read."""

    def joules() -> float:
        return int((zone / "energy_uj").read_text()) / 1e6

    joules()
    return joules, (int((zone / "max_energy_range_uj").read_text()) + 1) / 1e6


def gpu_counters() -> list[Counter]:
    """That of the first GPU that this process sees, by NVIDIA's library; none where it is not installed or the GPU does not tell."""
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []
    return [(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, math.inf)]
