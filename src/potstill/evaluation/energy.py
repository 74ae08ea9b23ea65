"""What answering takes in energy, where the machine counts it: processor packages and their memory (RAPL), NVIDIA's accelerators (NVML)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of Intel's and AMD's processors; reading them often needs root's permission
(`chmod a+r /sys/class/powercap/*/energy_uj`)."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Joules that something has taken since some moment; after `wraps_at` it begins anew (None: never)."""

    name: str
    read: Callable[[], float]
    wraps_at: float | None = None


class EnergyMeter:
    """Joules of the whole machine, as far as its counters go, since `start`: whatever else runs there counts, and so does idling."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = tuple(counters)
        self._before: tuple[float, ...] = ()
        self.start()

    @property
    def counted(self) -> tuple[str, ...]:
        """What has a counter: `package-0`, `dram`, an accelerator's name."""
        return tuple(counter.name for counter in self._counters)

    def start(self) -> None:
        """Count from now."""
        self._before = tuple(counter.read() for counter in self._counters)

    def joules(self) -> float | None:
        """Joules since the start; None where nothing is counted. A counter may have begun anew once (after an hour or so, under load)."""
        if not self._counters:
            return None
        return sum(_risen(counter, before) for counter, before in zip(self._counters, self._before, strict=True))


def processor_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """The counters of processor packages and of the memory beside them; none where one may not be read.

    Cores and graphics are parts of a package, and `psys` is a whole that packages are parts of: these are not counted again.
    """
    counters = [_zone(zone) for zone in sorted(powercap.glob("intel-rapl:*")) if _is_counted(zone)]
    try:
        for counter in counters:
            counter.read()
    except OSError:
        return []
    return counters


def accelerator_counters(uuid: str | None) -> Iterator[Counter]:
    """The counter of NVIDIA's accelerator with this id (`torch.cuda`'s); none where the driver gives none (before Volta, say)."""
    if uuid is None:
        return
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return
    yield Counter("accelerator", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)


def _is_counted(zone: Path) -> bool:
    name = (zone / "name").read_text().strip()
    return name.startswith("package") or name == "dram"


def _zone(zone: Path) -> Counter:
    energy = zone / "energy_uj"
    return Counter(
        (zone / "name").read_text().strip(),
        lambda: int(energy.read_text()) / 1e6,
        int((zone / "max_energy_range_uj").read_text()) / 1e6,
    )


def _risen(counter: Counter, before: float) -> float:
    now = counter.read()
    return now - before if now >= before or counter.wraps_at is None else now - before + counter.wraps_at
