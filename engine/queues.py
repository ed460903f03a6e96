"""How long trainings and their measurements take on so many devices, and what they cost."""

import heapq
from collections import deque
from collections.abc import Sequence

from engine.plan import Cost, Prices, priced


def makespan(chains: Sequence[tuple[float, Sequence[float]]], devices: int) -> float:
    """Seconds until all is done where `devices` each take the next thing that is ready, in order.

    A chain is what a model takes, and then each of its measurements, which wait for it and not for each other. ValueError for no devices.
    """
    if devices < 1:
        raise ValueError(f"devices={devices}, expected one at least")
    models, ready, now = deque(chains), deque[float](), 0.0
    running: list[tuple[float, tuple[float, ...]]] = []  # when each ends, and what can begin then
    while models or ready or running:
        while (models or ready) and len(running) < devices:
            seconds, behind = (ready.popleft(), ()) if ready else models.popleft()
            heapq.heappush(running, (now + seconds, tuple(behind)))
        now, freed = heapq.heappop(running)
        ready.extend(freed)
    return now


def cost_of(chains: Sequence[tuple[float, Sequence[float]]], devices: int, share: tuple[float, float], prices: Prices) -> Cost:
    """What trainings and measurements cost on `devices`; `share` is the processors and GPUs that one of them is."""
    cpus, gpus = (devices * part for part in share)
    return priced(makespan(chains, devices) / 3600, cpus, gpus, prices)
