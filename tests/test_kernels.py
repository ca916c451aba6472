"""The compiled kernels against plain NumPy, whatever the number of threads, and the compile cache."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hwsim.contracts.noise import NoisePath, Stream
from hwsim.kernels import IDENTITY, TANH, elementwise, fill_normals, leaky, relax_leaky, relax_transpose

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
B, N, T, EPS, SIGMA = 5, 37, 24, 0.1, 0.05


@pytest.fixture(autouse=True)
def single_threaded_blas() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def problem(dtype, *, lanes=B, units=N, steps=T, force=0, corrected=False, gain=0, every=0, seed=3):
    """Arrays of one relaxation: contracting weights (gain .8), so that rounding does not grow."""
    draw = np.random.default_rng(seed).normal
    weights = (0.8 / math.sqrt(units) * draw(size=(units, units))).astype(dtype)
    at = draw(size=(lanes, units)) if corrected else np.zeros((0, 0))
    return {
        "z": draw(size=(lanes, units)).astype(dtype),
        "before": np.full((lanes, units), np.nan, dtype),
        "drive": (0.5 * draw(size=(lanes, units))).astype(dtype),
        "force": (0.3 * draw(size=(force, lanes, units))).astype(dtype),
        "weights": weights,
        "weights_t": np.ascontiguousarray(weights.T),
        "at": at.astype(dtype),
        "gain": (draw(size=(gain, lanes, units)) if gain else 1 - np.tanh(at) ** 2).astype(dtype),
        "every": every,
        "states": np.full((1 + steps // every, lanes, units) if every else (0, 0, 0), np.nan, dtype),
        "eps": EPS,
        "steps": steps,
        "lo": 0,
        "hi": lanes,
    }


def noise(lanes=B, *, sigma=SIGMA, coarse=1, first=0):
    return {
        "sigma": sigma,
        "seed": 0xFEDCBA98,
        "step": 11,
        "stream": int(Stream.THERMAL),
        "phase": 2,
        "repeat": 7,
        "ids": (np.arange(lanes) * 3 + 1).astype(np.uint32),
        "repeats": (np.arange(lanes) % 3).astype(np.uint32),
        "coarse": coarse,
        "first": first,
    }


def deviates(n, units, steps):
    path = NoisePath(seed=n["seed"], step=n["step"], repeat=n["repeat"], coarse=n["coarse"])
    return path.normals(
        n["stream"], n["ids"], units=units, steps=steps, first=n["first"], phase=n["phase"], repeats=n["repeats"]
    )


def settle(z, field, steps, eps, sigma, xi):
    """All states of z <- z + eps field(z, t) + sigma xi_t in float64."""
    states = [z]
    for t in range(steps):
        states.append(states[-1] + eps * field(states[-1], t) + sigma * xi[t])
    return np.array(states)


def constant_or_wave(force, t):
    return 0.0 if len(force) == 0 else force[t if len(force) > 1 else 0]


def leaky_states(p, n, nonlinearity):
    """The leaky network by its definition, Jacobians written out as matrices."""
    a = {name: v.astype(np.float64) for name, v in p.items() if isinstance(v, np.ndarray)}
    rate = np.tanh if nonlinearity == TANH else lambda z: z

    def field(z, t):
        f = -z + rate(z) @ a["weights"].T + a["drive"] + constant_or_wave(a["force"], t)
        if len(a["at"]):
            jacobian = a["weights"] * a["gain"][:, None, :] - np.eye(z.shape[1])
            skew = jacobian - jacobian.transpose(0, 2, 1)
            f -= np.einsum("bij,bj->bi", skew, z - a["at"])
        return f

    return settle(a["z"], field, p["steps"], EPS, n["sigma"], deviates(n, p["z"].shape[1], p["steps"]))


def run_leaky(p, n, nonlinearity=TANH):
    relax_leaky(nonlinearity=nonlinearity, **p, **n)


def run_transpose(p, n):
    names = ("before", "force", "weights", "gain", "eps", "steps", "every", "states", "lo", "hi")
    relax_transpose(a=p["z"], **{name: p[name] for name in names}, **n)


def assert_close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(expected).max()))


# --- relaxation ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("nonlinearity", [IDENTITY, TANH])
@pytest.mark.parametrize(
    ("options", "noisy"),
    [
        ({}, {"sigma": 0.0}),
        ({}, {}),
        ({"force": 1}, {}),
        ({"force": T}, {}),
        ({"corrected": True, "force": 1}, {}),
        ({"corrected": True, "force": T, "every": 5}, {"coarse": 3, "first": 4}),
        ({"every": 1}, {}),
        ({"every": T + 1}, {}),
        ({"lanes": 33, "units": 300, "steps": 6, "corrected": True}, {}),
        ({"lanes": 1, "units": 1}, {}),
        ({"steps": 1, "force": 1, "every": 1}, {}),
        ({"steps": 0, "every": 4}, {}),
    ],
)
def test_leaky_kernel_is_its_definition(dtype, nonlinearity, options, noisy):
    p = problem(dtype, **options)
    n = noise(len(p["z"]), **noisy)
    expected = leaky_states(p, n, nonlinearity)
    run_leaky(p, n, nonlinearity)
    assert_close(p["z"], expected[-1], dtype)
    assert_close(p["before"], expected[max(p["steps"] - 1, 0)], dtype)
    if p["every"]:
        assert_close(p["states"], expected[:: p["every"]], dtype)


@BOTH
@pytest.mark.parametrize(
    ("options", "noisy"),
    [
        ({"gain": 1}, {"sigma": 0.0}),
        ({"gain": 1, "force": 1}, {}),
        ({"gain": T, "force": T, "every": 7}, {"coarse": 2, "first": 3}),
        ({"gain": T, "force": 1, "every": 1}, {}),
        ({"gain": 1, "force": T}, {}),
    ],
)
def test_transpose_kernel_is_its_definition(dtype, options, noisy):
    p = problem(dtype, **options)
    n = noise(**noisy)
    a = {name: v.astype(np.float64) for name, v in p.items() if isinstance(v, np.ndarray)}

    def field(z, t):
        gain = a["gain"][t if len(a["gain"]) > 1 else 0]
        return -z + gain * (z @ a["weights"]) + constant_or_wave(a["force"], t)

    expected = settle(a["z"], field, T, EPS, n["sigma"], deviates(n, N, T))
    run_transpose(p, n)
    assert_close(p["z"], expected[-1], dtype)
    assert_close(p["before"], expected[-2], dtype)
    if p["every"]:
        assert_close(p["states"], expected[:: p["every"]], dtype)


def test_transpose_settles_at_the_adjoint():
    """At rest, J^T a + force = 0."""
    p = problem(np.float64, steps=600, force=1, gain=1)
    p["gain"] = (1 - np.tanh(p["gain"]) ** 2).astype(np.float64)
    run_transpose(p, noise(sigma=0.0))
    for lane in range(B):
        jacobian = p["weights"] * p["gain"][0, lane] - np.eye(N)
        np.testing.assert_allclose(jacobian.T @ p["z"][lane], -p["force"][0, lane], rtol=0, atol=1e-12)


def test_correction_turns_the_linear_response_into_the_adjoint():
    """Asymmetric equilibrium propagation: without J - J^T a small force moves the fixed point by -J^{-T} force."""
    p = problem(np.float64, steps=900)
    quiet = noise(sigma=0.0)
    run_leaky(p, quiet)
    rest = p["z"].copy()
    force = 1e-6 * np.random.default_rng(0).normal(size=(1, B, N))
    run_leaky(p | {"at": rest, "gain": 1 - np.tanh(rest) ** 2, "force": force}, quiet)
    for lane in range(B):
        jacobian = p["weights"] * (1 - np.tanh(rest[lane]) ** 2) - np.eye(N)
        adjoint = np.linalg.solve(jacobian.T, -force[0, lane])
        np.testing.assert_allclose(p["z"][lane] - rest[lane], adjoint, rtol=0, atol=1e-4 * np.abs(adjoint).max())


def test_stationary_variance_is_that_of_the_discrete_langevin_equation():
    """Uncoupled units: sigma^2 / (1 - (1 - eps)^2) (Euler's, not the continuous sigma^2 / 2 eps)."""
    p = problem(np.float32, lanes=200, units=64, steps=100)
    p |= {"weights": np.zeros((64, 64), np.float32), "weights_t": np.zeros((64, 64), np.float32)}
    p["drive"][:] = 0
    run_leaky(p, noise(200, sigma=0.2), IDENTITY)
    expected = 0.2**2 / (1 - (1 - EPS) ** 2)
    assert p["z"].var(dtype=np.float64) == pytest.approx(expected, rel=4 * math.sqrt(2 / p["z"].size))


@BOTH
def test_coarse_steps_follow_the_same_brownian_path(dtype):
    """For a pure integral of noise, m fine steps and one coarse one of sqrt(m) the size end at the same place."""
    fine = problem(dtype, steps=12) | {"eps": 0.0}
    coarse = problem(dtype, steps=4) | {"eps": 0.0}
    run_leaky(fine, noise(sigma=0.1))
    run_leaky(coarse, noise(sigma=0.1 * math.sqrt(3), coarse=3))
    assert_close(coarse["z"], fine["z"].astype(np.float64), dtype)


@BOTH
def test_a_call_touches_its_own_lanes_only(dtype):
    p = problem(dtype, every=6)
    untouched = {name: p[name].copy() for name in ("z", "before", "states")}
    run_leaky(p | {"lo": 1, "hi": 3}, noise())
    for name, old in untouched.items():
        np.testing.assert_array_equal(np.delete(p[name], [1, 2], -2), np.delete(old, [1, 2], -2))
        assert not np.isnan(p[name][..., 1:3, :]).any()
    run_leaky(p | {"lo": 2, "hi": 2}, noise())


@BOTH
def test_tiling_changes_nothing_but_rounding(dtype):
    whole, parts = problem(dtype), problem(dtype)
    run_leaky(whole, noise())
    for lo, hi in ((0, 2), (2, B)):
        run_leaky(parts | {"lo": lo, "hi": hi}, noise())
    assert_close(parts["z"], whole["z"].astype(np.float64), dtype)


@BOTH
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads_gives_the_same_bits(dtype, threads):
    tiles = [(lo, min(lo + 32, 150)) for lo in range(0, 150, 32)]

    def run(workers):
        p = problem(dtype, lanes=150, corrected=True, every=8)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda tile: run_leaky(p | {"lo": tile[0], "hi": tile[1]}, noise(150)), tiles))
        return [p[name].tobytes() for name in ("z", "before", "states")]

    assert run(threads) == run(1)


@BOTH
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("options", "nonlinearity"), [({}, IDENTITY), ({"corrected": True, "force": 1}, TANH)])
def test_a_lane_that_is_not_finite_stays_so_and_keeps_to_itself(dtype, bad, options, nonlinearity):
    clean, spoilt = problem(dtype, **options), problem(dtype, **options)
    spoilt["z"][2, 5] = bad
    for p in (clean, spoilt):
        run_leaky(p, noise(), nonlinearity)
    assert not np.isfinite(spoilt["z"][2]).any()
    np.testing.assert_array_equal(np.delete(spoilt["z"], 2, 0), np.delete(clean["z"], 2, 0))


@BOTH
def test_divergence_ends_as_infinity_or_nan(dtype):
    p = problem(dtype, steps=4000)
    big = 10 * p["weights"]
    run_leaky(p | {"weights": big, "weights_t": np.ascontiguousarray(big.T)}, noise(), IDENTITY)
    assert not np.isfinite(p["z"]).any()


def test_read_only_inputs_need_no_further_compilation():
    for dtype in (np.float32, np.float64):
        p, n = problem(dtype, force=1), noise()
        run_leaky(p, n)
        for name in ("drive", "force", "weights", "weights_t", "at", "gain"):
            p[name].flags.writeable = False
        n["ids"].flags.writeable = False
        run_leaky(p, n)
    assert len(leaky._relax_leaky.signatures) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drive": np.zeros((B, N))}, "drive must be C-contiguous float32"),
        (
            {"drive": np.zeros((B, N + 1), np.float32)},
            rf"drive must be .* \[{B}, {N}\]; found float32 \[{B}, {N + 1}\]",
        ),
        ({"weights_t": np.zeros((N, N), np.float32).T}, "weights_t must be C-contiguous"),
        ({"force": np.zeros((T - 1, B, N), np.float32)}, "force must be"),
        ({"z": np.zeros((B, N), np.int32)}, "z must be a writable"),
        ({"hi": B + 1}, "lanes 0 to 6 of 5"),
        ({"every": -1}, "record every -1-th"),
        ({"every": 2}, "states must be"),
        ({"ids": np.arange(B)}, "ids must be uint32"),
        ({"phase": 256}, "phase = 256"),
        ({"first": 1 << 32}, "time step = 4294967296"),
        ({"nonlinearity": 7}, "nonlinearity 7"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    arguments = problem(np.float32) | noise() | {"nonlinearity": TANH} | change
    if "weights_t" in change:
        change["weights_t"] = np.asfortranarray(change["weights_t"])
    with pytest.raises(ValueError, match=message):
        relax_leaky(**arguments)


# --- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize(("units", "coarse"), [(1, 1), (31, 3), (32, 1), (70, 2)])
def test_kernel_noise_is_the_noise_of_the_path(dtype, limit, units, coarse):
    n = noise(4, coarse=coarse, first=9)
    del n["sigma"]
    out = np.full((5, 4, units), np.nan, dtype)
    fill_normals(out, **n)
    np.testing.assert_allclose(out, deviates(n, units, 5), rtol=0, atol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_kernel_noise_agrees_in_the_far_and_in_the_near_end_of_the_law(dtype, limit):
    """4e6 deviates, so that words close to 0 and to 2^32 occur, where a radius in float32 would be lost."""
    n = noise(64)
    del n["sigma"]
    out = np.empty((64, 64, 1024), dtype)
    fill_normals(out, **n)
    expected = deviates(n, 1024, 64)
    assert np.abs(expected).max() > 5
    assert np.hypot(expected[..., :8], expected[..., 8:16]).min() < 0.02
    assert np.abs(out - expected).max() < limit


# --- the compile cache ---------------------------------------------------------------------------------------------

CALLER = """
from ._compile import kernel
from .callee import gain

@kernel()
def step(x):
    return gain(x) + 1.0
"""
CALLEE = """
from ._compile import kernel

@kernel(inline={inline})
def gain(x):
    return {gain} * x
"""
ASK = "from room.caller import step; print(step(1.0), sum(step.stats.cache_hits.values()), step._cache.cache_path)"


@pytest.fixture
def room(tmp_path):
    """A copy of the kernels folder as a package of its own, with a caller and a callee in two files."""
    folder = tmp_path / "room"
    shutil.copytree(Path(elementwise.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__init__.py").write_text("")
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE.format(gain=2.0, inline=False))
    return folder


def ask(room, **environment):
    """(result, cache hits, cache folder) of the caller, from a fresh interpreter."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    clean |= {"PYTHONPATH": str(room.parent), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    run = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=clean, check=True)
    result, hits, folder = run.stdout.split()
    return float(result), int(hits), Path(folder)


def test_an_edited_callee_in_another_file_recompiles_its_caller(room):
    assert ask(room)[:2] == (3.0, 0)
    assert ask(room) == (3.0, 1, room / "__pycache__")
    (room / "callee.py").write_text(CALLEE.format(gain=10.0, inline=True))
    assert ask(room)[:2] == (11.0, 0)


def test_the_cache_goes_where_the_environment_says(room, tmp_path):
    assert ask(room, NUMBA_CACHE_DIR=str(tmp_path / "elsewhere"))[2].parent == tmp_path / "elsewhere"


def test_where_the_package_cannot_be_written_the_cache_goes_to_the_user(room, tmp_path):
    (room / "__pycache__").write_text("a file, so that no folder can be made here, whoever runs this test")
    user = {"XDG_CACHE_HOME": str(tmp_path / "user"), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    assert tmp_path in ask(room, **user)[2].parents
