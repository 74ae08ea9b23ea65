"""Energy is what the machine's own counters rose by, each joule once."""

import pytest

from potstill.evaluation.energy import Counter, EnergyMeter, accelerator_counters, processor_counters

RANGE = 262_143.328850


def zone(root, name, called, microjoules):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{called}\n")
    (folder / "max_energy_range_uj").write_text(f"{round(RANGE * 1e6)}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


@pytest.fixture
def powercap(tmp_path):
    """Two packages with their parts, the whole beside them, and a second view of the first: as Linux lists them."""
    (tmp_path / "intel-rapl").mkdir()
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    return tmp_path, {name: zone(tmp_path, name, called, 1_000_000) for name, called in zones.items()}


def test_packages_and_their_memory_are_counted_once_and_their_parts_not_again(powercap):
    root, energy = powercap
    meter = EnergyMeter(processor_counters(root))
    for file in energy.values():
        file.write_text("3500000\n")
    assert meter.counted == ("package-0", "dram", "package-1")
    assert meter.joules() == pytest.approx(3 * 2.5)


def test_a_counter_that_begins_anew_goes_on(powercap):
    root, energy = powercap
    energy["intel-rapl:0"].write_text(str(round((RANGE - 10) * 1e6)))
    meter = EnergyMeter(processor_counters(root))
    energy["intel-rapl:0"].write_text("5000000\n")
    assert meter.joules() == pytest.approx(15.0)


def test_what_went_before_the_start_does_not_count():
    values = iter([1.0, 5.0, 7.0])
    meter = EnergyMeter([Counter("one", lambda: next(values))])
    meter.start()
    assert meter.joules() == 2.0


def test_a_machine_without_counters_or_where_one_may_not_be_read_says_so(powercap, tmp_path):
    root, energy = powercap
    energy["intel-rapl:1"].unlink()
    energy["intel-rapl:1"].mkdir()  # cannot be read, for root either
    assert processor_counters(root) == processor_counters(tmp_path / "nowhere") == []
    assert EnergyMeter([]).joules() is None
    assert list(accelerator_counters(None)) == []
