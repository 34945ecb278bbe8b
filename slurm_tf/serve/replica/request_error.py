"""Why a request is refused: what the client is told, with the status that TensorFlow Serving gives it."""

from enum import IntEnum


class Code(IntEnum):
    """The status codes of gRPC, which are TensorFlow's too (tensorflow/core/protobuf/error_codes.proto)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# What TensorFlow Serving answers over REST (model_servers/http_server.cc).
HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class RequestError(Exception):
    """A request that is not answered. `busy`: the replica has too many; asked later it may be answered."""

    def __init__(self, code: Code, message: str, busy: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.busy = code, message, busy

    @property
    def http_status(self) -> int:
        """Return the status over REST: a replica that is busy says 429, as clients slow down for it."""
        return 429 if self.busy else HTTP_STATUS.get(self.code, 500)


def invalid(message: str) -> RequestError:
    """Return the error for a request that no version of any model could answer."""
    return RequestError(Code.INVALID_ARGUMENT, message)
