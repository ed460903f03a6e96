"""The simulation of `engine.fleet` on a machine whose processors are fewer than the actors that would work: all have equal shares.

A cluster's actors have processors of their own, so the fleet needs none of this; the pools of a local Ray share this machine's cores.
"""

import heapq
from collections import deque
from math import inf


class Shared:
    """Stations whose actors share `cores` processors, of which an actor takes one at most (processor sharing).

    `crowded` is how fast a processor is while another one is at work, where 1 is alone: they may share memory, caches, or be half a core.

    All that work at a moment go on at the same speed. So on a clock that runs at that speed the moment of each end is known when it
    begins, and a heap of these is the calendar.
    """

    def __init__(self, stations, cores=inf, crowded=1.0):
        self.stations, self.cores, self.crowded = stations, cores, crowded
        self.now = self.done = 0.0  # seconds, and seconds of work that an actor did that worked all the time
        self.working = []  # (self.done at its end, station, parcel)
        self.waiting, self.free, self.leaves = [deque() for _ in stations], [one.actors for one in stations], {}

    def simulate(self, arrivals):
        """The moments at which the parcels that come at these moments leave the last station, by parcel."""
        coming = deque(enumerate(arrivals))
        while coming or self.working:
            speed = self.speed()
            ends = self.now + (self.working[0][0] - self.done) / speed if self.working else inf
            if coming and coming[0][1] <= ends:
                parcel, at = coming.popleft()
                self.go_on(at, speed)
                self.enter(0, parcel)
            else:
                self.go_on(ends, speed)
                _, station, parcel = heapq.heappop(self.working)
                self.free[station] += 1
                self.begin(station)
                self.enter(station + 1, parcel)
        return [self.leaves[parcel] for parcel in range(len(arrivals))]

    def speed(self):
        """Of each that works now."""
        many = len(self.working)
        return min(1.0, self.cores / many) * (self.crowded if many > 1 else 1.0) if many else 1.0

    def go_on(self, until, speed):
        self.now, self.done = until, self.done + (until - self.now) * speed

    def enter(self, station, parcel):
        if station == len(self.stations):
            self.leaves[parcel] = self.now
            return
        self.waiting[station].append(parcel)
        self.begin(station)

    def begin(self, station):
        if self.free[station] and self.waiting[station]:
            self.free[station] -= 1
            ends = self.done + self.stations[station].seconds
            heapq.heappush(self.working, (ends, station, self.waiting[station].popleft()))
