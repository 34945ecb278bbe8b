"""How many requests the next batch is worth waiting for, from how many the last ones had. No input or output."""

# After so many batches that were full, one is tried with twice as many requests: clients may have become more.
_TRY_EVERY = 16


class ExpectedRequests:
    """The requests that a batch waits for: `number`. A client that is alone has 1: nothing is waited for."""

    def __init__(self) -> None:
        self.number = 1
        self._full = 0

    def another(self) -> None:
        """Note that a client has asked while the answer of another was on its way."""
        self.number = max(self.number, 2)

    def called(self, requests: int) -> None:
        """Note how many requests a batch had; fewer than expected: no more came in time."""
        self._full = self._full + 1 if requests >= self.number else 0
        self.number = max(requests, self.number // 2)
        if self._full >= _TRY_EVERY and requests > 1:
            self._full = 0
            self.number = 2 * requests
