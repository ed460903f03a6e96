"""A stage that takes time and no core. It stands alone, so that an actor of it imports nothing else and starts at once."""

import time


class Sleep:
    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, rows):
        time.sleep(self.seconds * len(rows))
        yield rows
