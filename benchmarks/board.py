"""How fast the link to a board is: `python -m benchmarks.board`.

For each emulated board (a process on a terminal, unpaced and paced to a baud rate by a wire between; QEMU where it is
installed): round trip, share of the wire that bulk data fill, wall time of a batch, the host's CPU time per settling.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices.board import SerialBoard
from hwsim.devices.board.codes import Slot, Type
from hwsim.devices.board.emulator import Emulated, HostBoard, Machine, QemuBoard, qemu_missing
from hwsim.devices.board.link import Request
from hwsim.devices.board.protocol import Ping
from hwsim.devices.board.transfers import download, upload
from hwsim.testing.draws import draw_parameters

LANES, STEPS, ECHOES = 64, 30, 200


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured on one board.

    Args:
        where: which.
        trip, trip_worst: seconds of an echo, median and 99th percentile.
        up, down: bytes of data per second, programming and reading back a recording.
        share_up, share_down: of the wire, those bytes against baud / 10; NaN without a baud rate.
        settling: seconds of a batch of LANES settlings of STEPS steps, inputs new each time.
        host: seconds of the host's CPU per settling.
    """

    where: str
    trip: float
    trip_worst: float
    up: float
    down: float
    share_up: float
    share_down: float
    settling: float
    host: float


def measure(where: str, url: str, baud: int | None, repeats: int) -> Figures:
    """All figures of one board."""
    with SerialBoard(url, baud=baud or 4_000_000, patience=30.0) as board:
        spec, rng = board.spec, np.random.default_rng(0)
        parameters = draw_parameters(spec, 0)
        held = board.program(parameters)
        echo = Request(type=Type.PING, payload=Ping(nonce=1, board_ms=0).pack(), expect=Ping.size)
        trips = [timed(lambda: board.session.one(echo)) for _ in range(ECHOES if baud is None else 40)]
        size = 4 * sum(np.asarray(block).size for block in held.values())
        network = rng.uniform(-0.1, 0.1, size // 4).astype("<f4")
        up = [timed(lambda k=k: upload(board.session, Slot.NETWORK, (network + k).tobytes())) for k in range(repeats)]
        board.program(parameters)
        x = rng.uniform(-1.0, 1.0, (LANES, spec.inputs))
        plan = Plan(inputs=x, ids=np.arange(LANES), phases=(Phase(steps=STEPS),))
        board.relax(plan, noise=NoisePath(seed=0))
        length = 4 * LANES * (2 + spec.units)
        down = [timed(lambda: download(board.session, Slot.RESULT, length)) for _ in range(repeats)]
        walls, began = [], time.process_time()
        for k in range(repeats):
            fresh = replace(plan, inputs=rng.uniform(-1.0, 1.0, x.shape))
            walls.append(timed(lambda fresh=fresh, k=k: board.relax(fresh, noise=NoisePath(seed=0, step=k))))
        host = (time.process_time() - began) / (repeats * LANES)
        line = float("nan") if baud is None else baud / 10.0
        rates = size / statistics.median(up), length / statistics.median(down)
        return Figures(
            where=where,
            trip=statistics.median(trips),
            trip_worst=float(np.percentile(trips, 99)),
            up=rates[0],
            down=rates[1],
            share_up=rates[0] / line,
            share_down=rates[1] / line,
            settling=statistics.median(walls),
            host=host,
        )


def timed(action: Callable[[], object]) -> float:
    """Wall time of a call, seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@contextmanager
def boards() -> Iterator[list[tuple[str, str, int | None]]]:
    """(name, URL, baud) of every board that can be emulated here."""
    kind = Emulated(units=64, inputs=64, lanes=LANES, horizon=STEPS)
    with HostBoard(kind) as host:
        found: list[tuple[str, str, int | None]] = [("host", host.url, None)]
        found += [(f"host, {baud} baud", f"fault://{host.url}?baud={baud}", baud) for baud in (115_200, 2_000_000)]
        if qemu_missing() is None:
            with QemuBoard(kind, Machine.M4F) as controller:
                yield [*found, ("QEMU, Cortex-M4F", controller.url, None)]
        else:
            yield found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        "| board | echo ms, median (p99) | up kB/s | down kB/s | of the wire, up / down | batch ms "
        "| host CPU ms per settling |"
    )
    print("|---|---|---|---|---|---|---|")
    with boards() as found:
        for where, url, baud in found:
            one = measure(where, url, baud, options.repeats)
            share = "" if baud is None else f"{one.share_up:.0%} / {one.share_down:.0%}"
            print(
                f"| {where} | {1e3 * one.trip:.2f} ({1e3 * one.trip_worst:.2f}) | {one.up / 1e3:.0f} | "
                f"{one.down / 1e3:.0f} | {share} | {1e3 * one.settling:.0f} | {1e3 * one.host:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
