"""Ray's client of a job server with an end to its patience: Ray's own waits for ever for one that takes the connection and says nothing."""

from typing import Any

from ray.job_submission import JobSubmissionClient


class Client(JobSubmissionClient):  # type: ignore[misc]
    """`waits` are the seconds for a connection and for each part of an answer; requests.Timeout where they are over."""

    def __init__(self, address: str, headers: dict[str, str], waits: tuple[float, float]) -> None:
        self.waits = waits  # before Ray's, which asks for the version
        super().__init__(address, headers=headers)

    def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=self.waits, **more)
