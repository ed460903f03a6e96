"""What goes wrong between a job and MLflow, and which of it is for good."""

import sys

TOO_MANY = 429  # requests: the status of HTTP that says later, not never


def reason(error: BaseException) -> str:
    """Why a server or a database could not be reached, as the system or the database says it, in one line."""
    chain = [error]
    while below := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(below)
    below = next((found for one in chain if (found := getattr(one, "orig", None))), error)  # what a database said, beneath SQLAlchemy
    told = next((one for one in reversed(chain) if isinstance(one, OSError)), below)
    return " ".join(str(told).split())


def troubles() -> tuple[type[BaseException], ...]:
    """What MLflow raises where its server or file fails it, of what is loaded: it lets errors of its database and of HTTP through."""
    own = {
        "mlflow.exceptions": ("MlflowException",),
        "sqlalchemy.exc": ("SQLAlchemyError",),
        "requests.exceptions": ("RequestException",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),  # of a bucket of artifacts
        "boto3.exceptions": ("Boto3Error",),
    }
    return tuple(getattr(sys.modules[module], name) for module, names in own.items() if module in sys.modules for name in names)


def amid_a_run() -> tuple[type[BaseException], ...]:
    """What may go wrong on the way to a server that was there when the run began; its folder of artifacts may be gone, too."""
    return *troubles(), OSError


def refused(error: BaseException) -> bool:
    """Whether the server was there and said no, so that to send the same again would be in vain."""
    answer = getattr(error, "response", None)  # of requests
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else getattr(answer, "status_code", 503)
    return bool(400 <= status < 500 and status != TOO_MANY)


def is_wrong(error: BaseException) -> bool:
    """Whether what was sent is no good. Amid a run that alone ends it: a token that expired or a proxy without a server passes."""
    return bool(hasattr(error, "get_http_status_code") and error.get_http_status_code() == 400)
