"""The compiled relaxations against plain NumPy, whatever the number of threads."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba.core.errors import TypingError
from threadpoolctl import threadpool_limits

from hwsim.contracts.noise import NoisePath, Stream
from hwsim.kernels import (
    HARD,
    IDENTITY,
    LOGISTIC,
    RELU,
    SOFTPLUS,
    TANH,
    Coupled,
    Motion,
    Noise,
    Response,
    Trajectory,
    coupled,
    dense_weights,
    no_weights,
    relax_coupled,
    relax_response,
)
from hwsim.kernels._compile import kernel

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
B, N, T, EPS, SIGMA = 5, 37, 24, 0.1, 0.05
RATES = {
    IDENTITY: (lambda z: z, np.ones_like),
    TANH: (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    LOGISTIC: (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    SOFTPLUS: (lambda z: np.log1p(np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
    RELU: (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z >= 0)),
    HARD: (lambda z: np.clip(z, 0, 1), lambda z: 1.0 * ((z >= 0) & (z <= 1))),
}


@pytest.fixture(autouse=True)
def single_threaded_blas() -> Iterator[None]:
    with threadpool_limits(1):
        yield


class Problem:
    """One relaxation: contracting weights (gain .8), so that rounding does not grow."""

    def __init__(self, dtype, *, lanes=B, units=N, steps=T, force=0, every=0, sigma=SIGMA, coarse=1, first=0):
        self.dtype, self.shape = dtype, (lanes, units)
        self.draw = np.random.default_rng(3).normal
        empty = np.empty((0, 0), dtype)
        self.weights = self.array(units, units) * dtype(0.8 / math.sqrt(units))
        self.trajectory = Trajectory(
            z=self.array(lanes, units),
            before=np.full((lanes, units), np.nan, dtype),
            states=np.full((1 + steps // every, lanes, units) if every else (0, 0, 0), np.nan, dtype),
            limited=np.zeros(lanes, bool),
            steps=steps,
            every=every,
        )
        self.motion = Motion(
            push=np.full(units, EPS, dtype),
            steady=self.array(lanes, units) / 2,
            force=self.array(force, lanes, units) / 3,
            amplitude=np.full((1, units), sigma, dtype) if sigma else empty,
            mixing=no_weights(np.dtype(dtype)),
            slew=np.empty(0, dtype),
            low=empty,
            high=empty,
        )
        self.noise = Noise(
            path=NoisePath(seed=0xFEDCBA98, step=11, repeat=7, coarse=coarse),
            stream=int(Stream.THERMAL),
            phase=2,
            ids=(np.arange(lanes) * 3 + 1).astype(np.uint32),
            repeats=(np.arange(lanes) % 3).astype(np.uint32),
            first=first,
        )

    def array(self, *shape):
        return self.draw(size=shape).astype(self.dtype)

    def moving(self, **changes):
        self.motion = self.motion._replace(**changes)
        return self

    def net(self, nonlinearity=TANH, *, leak=1.0, gradient=False, corrected=False):
        """The network of these weights, corrected around a random state."""
        W, empty = self.weights, np.empty((0, 0), self.dtype)
        at = self.array(*self.shape) if corrected else empty
        back = (W - W.T if gradient else W) if corrected else empty
        return Coupled(
            weights=dense_weights(W),
            drive=self.array(*self.shape) if gradient else empty,
            nonlinearity=nonlinearity,
            leak=leak,
            gradient=gradient,
            at=at,
            gain=RATES[nonlinearity][1](at).astype(self.dtype),
            back=dense_weights(back.T),
        )

    def response(self, along=1):
        leak = -np.ones((1, 1, self.shape[1]), self.dtype)
        post, pre = self.array(along, *self.shape), np.empty((0, 0, 0), self.dtype)
        return Response(dense_weights(self.weights.T), post, leak, pre)

    def relax(self, net, tiles=None, run=map):
        kernel = relax_coupled if isinstance(net, Coupled) else relax_response
        kernel(self.trajectory, self.motion, self.noise, net, tiles or [(0, self.shape[0])], run)
        return self.trajectory

    def settle(self, field):
        """All states by the definition of a step, in float64, and the lanes that a limit held."""
        n = self.noise
        m = self.motion._replace(**{name: np.asarray(v, np.float64) for name, v in arrays(self.motion).items()})
        rest = {"steps": self.trajectory.steps, "first": n.first, "phase": n.phase, "repeats": n.repeats}
        xi = n.path.normals(n.stream, n.ids, units=self.shape[1], **rest)
        states, limited = [self.trajectory.z.astype(np.float64)], np.zeros(self.shape[0], bool)
        for t in range(self.trajectory.steps):
            z, force = states[-1], m.force[t if len(m.force) > 1 else 0] if len(m.force) else 0.0
            change = m.push * (field(z, t) + m.steady + force)
            if len(m.slew):
                limited |= (np.abs(change) > m.slew).any(axis=1)
                change = np.clip(change, -m.slew, m.slew)
            z = z + change
            if len(m.amplitude):
                z = z + m.amplitude * (xi[t] @ matrix(m.mixing).T if m.mixing.panels.size else xi[t])
            if len(m.low):
                limited |= (((z < m.low) | (z > m.high)) & (m.low < m.high)).any(axis=1)
                z = np.clip(z, m.low, m.high)
            states.append(z)
        return np.array(states), limited


def arrays(parts):
    """Those of a named tuple."""
    return {name: value for name, value in parts._asdict().items() if isinstance(value, np.ndarray)}


def matrix(weights):
    """What was laid out, in float64."""
    units = weights.panels.shape[1]
    return weights.panels.transpose(0, 2, 1).reshape(-1, units)[:units].astype(np.float64)


def flow(net):
    """The field of a coupled network, Jacobians written out as matrices."""
    a = {name: v.astype(np.float64) for name, v in arrays(net).items()}
    a["weights"] = matrix(net.weights)
    rate, slope = RATES[net.nonlinearity]

    def field(z, t):
        inflow = rate(z) @ a["weights"].T
        f = -net.leak * z + (slope(z) * (inflow + a["drive"]) if net.gradient else inflow)
        if len(a["at"]):
            jacobian = a["weights"] * a["gain"][:, None, :]
            jacobian = a["gain"][:, :, None] * jacobian if net.gradient else jacobian
            f = f - np.einsum("bij,bj->bi", jacobian - jacobian.transpose(0, 2, 1), z - a["at"])
        return f

    return field


def assert_close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(expected).max()))


def check(p, net, field):
    """The kernel's answers are those of the definition."""
    expected, limited = p.settle(field)
    found = p.relax(net)
    assert_close(found.z, expected[-1], p.dtype)
    assert_close(found.before, expected[max(found.steps - 1, 0)], p.dtype)
    np.testing.assert_array_equal(found.limited, limited)
    if found.every:
        assert_close(found.states, expected[:: found.every], p.dtype)


# --- relaxation ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("nonlinearity", [IDENTITY, TANH])
@pytest.mark.parametrize(
    ("options", "corrected"),
    [
        ({"sigma": 0.0}, False),
        ({}, False),
        ({"force": 1}, False),
        ({"force": T}, False),
        ({"force": 1}, True),
        ({"force": T, "every": 5, "coarse": 3, "first": 4}, True),
        ({"every": 1}, False),
        ({"every": T + 1}, False),
        ({"lanes": 33, "units": 300, "steps": 6}, True),
        ({"lanes": 1, "units": 1}, False),
        ({"steps": 1, "force": 1, "every": 1}, False),
        ({"steps": 0, "every": 4}, False),
    ],
)
def test_coupled_kernel_is_its_definition(dtype, gradient, nonlinearity, options, corrected):
    p = Problem(dtype, **options)
    net = p.net(nonlinearity, gradient=gradient, corrected=corrected)
    check(p, net, flow(net))


@BOTH
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("nonlinearity", RATES)
def test_every_nonlinearity_is_its_definition(dtype, gradient, nonlinearity):
    p = Problem(dtype)
    net = p.net(nonlinearity, gradient=gradient, leak=1.0)
    check(p, net, flow(net))


@BOTH
@pytest.mark.parametrize("slew", [False, True])
@pytest.mark.parametrize("rails", ["none", "shared", "own"])
@pytest.mark.parametrize("amplitude", ["none", "own", "matrix"])
def test_step_is_its_definition(dtype, slew, rails, amplitude):
    """Push, slew limit and noise per unit, correlated noise, rails for all lanes or for each, and a clamped unit."""
    p = Problem(dtype, every=3, sigma=0.0)
    p.moving(push=(EPS * np.linspace(0.5, 1.5, N)).astype(dtype))
    if slew:  # near the median of a first step, so that it holds some units
        p.moving(slew=np.full(N, 0.08, dtype))
    if rails != "none":
        lanes = 1 if rails == "shared" else B
        low = -np.linspace(1.1, 1.6, N * lanes).reshape(lanes, N).astype(dtype)
        high = -low
        low[:, 3] = high[:, 3] = 0.25
        p.moving(low=low, high=high)
        p.trajectory.z[:] = np.clip(p.trajectory.z, low, high)
    if amplitude == "own":
        p.moving(amplitude=np.linspace(0, 0.1, N)[None].astype(dtype))
    if amplitude == "matrix":
        p.moving(amplitude=np.linspace(0.5, 1, N)[None].astype(dtype), mixing=dense_weights(p.array(N, N) / dtype(100)))
    net = p.net(TANH)
    check(p, net, flow(net))


def test_limits_hold_some_lanes_only():
    """Or the test above could not tell one lane's flag from another's."""
    p = Problem(np.float64, sigma=0.0).moving(low=np.full((1, N), -1.0), high=np.full((1, N), 1.0))
    p.trajectory.z[:3], p.motion.steady[:3] = 0.0, 0.0
    assert p.relax(p.net()).limited.tolist() == [False, False, False, True, True]


@BOTH
@pytest.mark.parametrize(
    ("options", "along"),
    [
        ({"sigma": 0.0}, 1),
        ({"force": 1}, 1),
        ({"force": T, "every": 7, "coarse": 2, "first": 3}, T),
        ({"force": 1, "every": 1}, T),
        ({"force": T}, 1),
        ({"lanes": 33, "units": 300, "steps": 6}, 6),
    ],
)
@pytest.mark.parametrize("weighed", [False, True])
def test_response_kernel_is_its_definition(dtype, options, along, weighed):
    p = Problem(dtype, **options)
    net = p.response(along)
    if weighed:
        net = net._replace(pre=p.array(along, *p.shape), diagonal=p.array(along, *p.shape) / 4 - 1)
    a = {name: v.astype(np.float64) for name, v in arrays(net).items()}
    W_t = matrix(net.weights)

    def field(z, t):
        post, diagonal = (a[name][t if len(a[name]) > 1 else 0] for name in ("post", "diagonal"))
        pre = a["pre"][t if along > 1 else 0] if weighed else 1.0
        return diagonal * z + post * ((pre * z) @ W_t.T)

    check(p, net, field)


def test_response_settles_at_the_adjoint():
    """At rest, J^T a + force = 0."""
    p = Problem(np.float64, steps=600, force=1, sigma=0.0)
    p.moving(steady=np.zeros((1, N)))
    slope = 1 - np.tanh(p.array(1, B, N)) ** 2
    p.relax(p.response()._replace(post=slope))
    for lane in range(B):
        jacobian = p.weights * slope[0, lane] - np.eye(N)
        np.testing.assert_allclose(jacobian.T @ p.trajectory.z[lane], -p.motion.force[0, lane], rtol=0, atol=1e-12)


def test_correction_turns_the_linear_response_into_the_adjoint():
    """Asymmetric equilibrium propagation: without J - J^T a small force moves the fixed point by -J^{-T} force."""
    p = Problem(np.float64, steps=900, sigma=0.0)
    p.relax(p.net())
    rest = p.trajectory.z.copy()
    force = 1e-6 * p.array(1, B, N)
    p.moving(force=force).relax(p.net(corrected=True)._replace(at=rest, gain=1 - np.tanh(rest) ** 2))
    for lane in range(B):
        jacobian = p.weights * (1 - np.tanh(rest[lane]) ** 2) - np.eye(N)
        adjoint = np.linalg.solve(jacobian.T, -force[0, lane])
        moved = p.trajectory.z[lane] - rest[lane]
        np.testing.assert_allclose(moved, adjoint, rtol=0, atol=1e-4 * np.abs(adjoint).max())


def uncoupled(lanes, units, steps, **noise):
    """Leaky units without couplings or drive, from rest."""
    p = Problem(np.float32, lanes=lanes, units=units, steps=steps).moving(**noise)
    p.trajectory.z[:], p.motion.steady[:], p.weights[:] = 0, 0, 0
    return p.relax(p.net(IDENTITY)).z


def test_stationary_variance_is_that_of_the_discrete_langevin_equation():
    """Uncoupled units: sigma^2 / (1 - (1 - eps)^2) (Euler's, not the continuous sigma^2 / 2 eps)."""
    z = uncoupled(200, 64, 100, amplitude=np.full((1, 64), 0.2, np.float32))
    expected = 0.2**2 / (1 - (1 - EPS) ** 2)
    assert z.var(dtype=np.float64) == pytest.approx(expected, rel=4 * math.sqrt(2 / z.size))


def test_a_noise_matrix_gives_its_covariance():
    """Uncoupled units under amplitude R: covariance R R^T / (1 - (1 - eps)^2), within 5 standard errors."""
    root = 0.2 * np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.5, 0.7]])
    z = uncoupled(4000, 3, 80, amplitude=np.ones((1, 3), np.float32), mixing=dense_weights(root.astype(np.float32)))
    expected = root @ root.T / (1 - (1 - EPS) ** 2)
    spread = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / len(z))
    assert (np.abs(z.T @ z / len(z) - expected) < 5 * spread).all()


@BOTH
def test_coarse_steps_follow_the_same_brownian_path(dtype):
    """For a pure integral of noise, m fine steps and one coarse one of sqrt(m) the size end at the same place."""
    still = np.zeros(N, dtype)
    fine = Problem(dtype, steps=12, sigma=0.1).moving(push=still)
    coarse = Problem(dtype, steps=4, sigma=0.1 * math.sqrt(3), coarse=3).moving(push=still)
    assert_close(coarse.relax(coarse.net()).z, fine.relax(fine.net()).z.astype(np.float64), dtype)


@BOTH
def test_a_call_touches_its_own_lanes_only(dtype):
    p = Problem(dtype, every=6)
    names = ("z", "before", "states")
    untouched = {name: getattr(p.trajectory, name).copy() for name in names}
    p.relax(p.net(), [(1, 2), (2, 3), (4, 4)])
    for name, old in untouched.items():
        new = getattr(p.trajectory, name)
        np.testing.assert_array_equal(np.delete(new, [1, 2], -2), np.delete(old, [1, 2], -2))
        assert not np.isnan(new[..., 1:3, :]).any()


@BOTH
def test_tiling_changes_nothing_but_rounding(dtype):
    whole, parts = Problem(dtype), Problem(dtype)
    whole.relax(whole.net())
    parts.relax(parts.net(), [(2, B), (0, 2)])
    assert_close(parts.trajectory.z, whole.trajectory.z.astype(np.float64), dtype)


@BOTH
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads_gives_the_same_bits(dtype, threads):
    tiles = [(lo, min(lo + 32, 150)) for lo in range(0, 150, 32)]

    def run(workers):
        p = Problem(dtype, lanes=150, every=8)
        with ThreadPoolExecutor(workers) as pool:
            p.relax(p.net(corrected=True), tiles, pool.map)
        return [getattr(p.trajectory, name).tobytes() for name in ("z", "before", "states")]

    assert run(threads) == run(1)


@BOTH
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("options", "corrected", "nonlinearity"), [({}, False, IDENTITY), ({"force": 1}, True, TANH)])
def test_a_lane_that_is_not_finite_stays_so_and_keeps_to_itself(dtype, bad, options, corrected, nonlinearity):
    clean, spoilt = (Problem(dtype, **options) for _ in range(2))
    spoilt.trajectory.z[2, 5] = bad
    for p in (clean, spoilt):
        p.relax(p.net(nonlinearity, corrected=corrected))
    assert not np.isfinite(spoilt.trajectory.z[2]).any()
    np.testing.assert_array_equal(np.delete(spoilt.trajectory.z, 2, 0), np.delete(clean.trajectory.z, 2, 0))


@BOTH
@pytest.mark.parametrize("nonlinearity", RATES)
def test_rails_and_slew_limits_let_a_nan_through(dtype, nonlinearity):
    p = Problem(dtype).moving(
        slew=np.full(N, 0.01, dtype), low=np.full((1, N), -9, dtype), high=np.full((1, N), 9, dtype)
    )
    p.trajectory.z[2, 5] = math.nan
    p.relax(p.net(nonlinearity, gradient=True))
    assert np.isnan(p.trajectory.z[2]).all()
    assert np.isfinite(np.delete(p.trajectory.z, 2, 0)).all()


@BOTH
def test_divergence_ends_as_infinity_or_nan(dtype):
    p = Problem(dtype, steps=4000)
    p.weights *= 10
    assert not np.isfinite(p.relax(p.net(IDENTITY)).z).any()


def test_nothing_is_compiled_but_one_function_per_precision():
    """Whatever is asked for, and whether or not inputs can be written."""
    for dtype in (np.float32, np.float64):
        for options in ({"gradient": True}, {"corrected": True}):
            p = Problem(dtype, force=1, every=2)
            net = p.net(**options)
            for array in (*p.motion, *net, p.noise.ids):
                if isinstance(array, np.ndarray):
                    array.flags.writeable = False
            p.relax(net)
    assert len(coupled._relaxation(TANH, False).signatures) == 2


def test_what_allocates_is_no_kernel():
    """So that no loop over steps can: memory is taken by the caller, before."""

    @kernel()
    def zeroed(out):
        out[:] = np.zeros(3)

    @kernel()
    def doubled(out):
        out[:] = out + out

    for function in (zeroed, doubled):
        with pytest.raises(TypingError):
            function(np.ones(3))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("motion", {"steady": np.zeros((B, N))}, "steady must be C-contiguous float32"),
        (
            "motion",
            {"steady": np.zeros((B, N + 1), np.float32)},
            rf"steady must be .* \[{B}, {N}\]; found float32 \[{B}, {N + 1}\]",
        ),
        ("motion", {"force": np.zeros((T - 1, B, N), np.float32)}, "force must be"),
        ("motion", {"push": np.zeros(N - 1, np.float32)}, "push must be"),
        ("motion", {"amplitude": np.zeros((2, N), np.float32)}, "amplitude must be"),
        ("motion", {"low": np.zeros((1, N), np.float32)}, "low must be .* \\[0, 0\\]"),
        ("net", {"weights": dense_weights(np.zeros((N, N)))}, "weights must be dense_weights .* of a float32 matrix"),
        ("net", {"weights": dense_weights(np.zeros((N, N + 1), np.float32))}, rf"found float32, \[3, {N + 1}, 16\]"),
        ("net", {"back": dense_weights(np.zeros((N, N), np.float32))}, r"back must be .* matrix \[0, 0\]"),
        (
            "net",
            {"weights": dense_weights(np.zeros((N, N), np.float32))._replace(span=np.array([[0, N + 1]] * 3))},
            rf"the spans of weights must be \[3, 2\] from 0 to {N}",
        ),
        ("net", {"nonlinearity": 7}, "nonlinearity 7"),
        ("net", {"at": np.zeros((B, N), np.float32)}, "gain must be"),
        ("trajectory", {"z": np.zeros((B, N), np.int32)}, "z must be a writable"),
        ("trajectory", {"every": -1}, "every -1-th"),
        ("trajectory", {"steps": -1}, "-1 steps"),
        ("trajectory", {"every": 2}, "states must be"),
        ("trajectory", {"limited": np.zeros(B)}, "limited must be a writable bool"),
        ("noise", {"ids": np.arange(B)}, "ids must be C-contiguous uint32"),
        ("noise", {"phase": 256}, "phase = 256"),
        ("noise", {"first": 1 << 32}, "time step = 4294967296"),
        ("tiles", [(0, B + 1)], "lanes 0 to 6 of 5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(part, change, message):
    p = Problem(np.float32)
    given = {"trajectory": p.trajectory, "motion": p.motion, "noise": p.noise, "net": p.net(), "tiles": [(0, B)]}
    given[part] = change if part == "tiles" else given[part]._replace(**change)
    with pytest.raises(ValueError, match=message):
        relax_coupled(**given)
