"""Recordings that go to a file: the same bits, room on the disk, and nothing left over."""

import gc
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices import Fused, Recordings, SimulatedDevice, Stepwise, ThermalNoise, TorchEngine, hardware
from hwsim.devices.imperfections import ADC, ReadoutNoise, SampleSkew
from hwsim.substrates import LeakyNetwork

N, M, B, T = 8, 3, 6, 20
ENGINES = pytest.mark.parametrize("engine", [Fused, Stepwise, TorchEngine])
READS = {
    "exact": [],
    "converter": [ReadoutNoise(0.01), ADC(8)],
    "skewed": [SampleSkew(1e-9), ReadoutNoise(0.01), ADC(8)],
}
MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(engine, recordings, *, record=1, reads=(), dtype=np.float32, steps=T):
    network = LeakyNetwork.dense(N, M)
    device = SimulatedDevice(
        network,
        horizon=T,
        imperfections=[ThermalNoise(0.1), *reads],
        engine=engine(),
        dtype=dtype,
        recordings=recordings,
    )
    device.program(network.initial(0, gain=0.8, input_gain=1.0))
    x = np.random.default_rng(0).standard_normal((B, M))
    plan = Plan(inputs=x, ids=np.arange(B), phases=(Phase(steps=steps, record=record), Phase(steps=3, record=2)))
    return device.relax(plan, noise=NoisePath(seed=1))


def mapped(folder):
    """How many files of a folder are mapped into this process."""
    gc.collect()
    return sum(str(folder) in line for line in MAPS.read_text(encoding="utf-8").splitlines())


@ENGINES
@pytest.mark.parametrize("record", [1, 3])
@pytest.mark.parametrize("reads", READS)
def test_a_large_recording_goes_to_disk_with_the_same_bits(engine, record, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "READ_AT_ONCE", 4 * B * N)  # reads in several goes
    wanted = run(engine, Recordings(), record=record, reads=READS[reads])
    limit = (T // record) * B * N * 4  # less than T // record + 1 states
    found = run(engine, Recordings(most_bytes=limit, folder=tmp_path), record=record, reads=READS[reads])
    for one, other in zip(found, wanted, strict=True):
        assert one.states.tobytes() == other.states.tobytes()
        assert one.final.tobytes() == other.final.tobytes()
        np.testing.assert_array_equal(one.outcome, other.outcome)
    if reads == "exact":
        np.testing.assert_array_equal(found[0].states[0], 0.0)


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not say what is mapped")
@ENGINES
def test_the_file_lasts_as_long_as_its_last_array(engine, tmp_path):
    (long, short) = run(engine, Recordings(most_bytes=T * B * N * 4, folder=tmp_path))
    assert mapped(tmp_path) == 1  # the short one fits into memory
    assert list(tmp_path.iterdir()) == []  # it has no name, so that nothing is left even if the process dies
    part = long.states[3:5, :, 0]
    kept = part.copy()
    del long
    assert mapped(tmp_path) == 1
    np.testing.assert_array_equal(part, kept)
    del part, short
    assert mapped(tmp_path) == 0


def test_every_read_has_its_own_noise_in_goes_or_at_once(monkeypatch):
    """What stays of the analog states may not be read twice: the noise of states far apart is independent."""
    monkeypatch.setattr(hardware, "READ_AT_ONCE", 1)
    exact, _ = run(Stepwise, Recordings(), dtype=np.float64)
    noisy, _ = run(Stepwise, Recordings(), reads=[ReadoutNoise(0.1)], dtype=np.float64)
    noise = noisy.states - exact.states
    assert np.std(noise) == pytest.approx(0.1, rel=5.0 / math.sqrt(2.0 * noise.size))
    flat = noise.reshape(T + 1, -1)
    apart = np.corrcoef(flat)[~np.eye(T + 1, dtype=bool)]
    assert np.abs(apart).max() < 5.0 / math.sqrt(flat.shape[1])


def test_empty_recordings_and_limits(tmp_path):
    all_on_disk = Recordings(most_bytes=0, folder=tmp_path)
    assert all_on_disk.empty((0, B, N), np.dtype(float)).shape == (0, B, N)
    states, _ = run(Fused, all_on_disk, steps=0)
    assert states.states.shape == (1, B, N)
    assert not Recordings().on_disk((10**6, 10**6, 10**6), np.dtype(float))
    assert Recordings(most_bytes=7).on_disk((1, 1, 1), np.dtype(float))
    assert not Recordings(most_bytes=8).on_disk((1, 1, 1), np.dtype(float))


def test_what_cannot_be_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="most_bytes >= 0; found most_bytes=-1"):
        Recordings(most_bytes=-1)
    with pytest.raises(InputError, match="most_bytes >= 0; found most_bytes=nan"):
        Recordings(most_bytes=math.nan)
    with pytest.raises(InputError, match=r"a folder that exists; found folder=.*nowhere"):
        Recordings(folder=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"a recording of .* GB does not fit .*Recordings\(folder"):
        Recordings(most_bytes=0, folder=tmp_path).empty((2**31, 2**20, 2**8), np.dtype(float))
