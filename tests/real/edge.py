"""What every client here is told of the edge, and how it tells what refused it."""

import json
import os
import ssl

EDGE = os.environ["WEIR_EDGE"]
CA = os.environ["WEIR_CA"]
KEY = os.environ["WEIR_KEY"]


def trusting():
    """A context that trusts the authority of the test, and nobody else."""
    return ssl.create_default_context(cafile=CA)


def refused(call):
    """What the SDK raised: its classes, and what it made of the answer."""
    try:
        call()
    except Exception as error:
        causes, cause = [], error
        while cause is not None:
            causes.append(str(cause))
            cause = cause.__cause__ or cause.__context__
        response = getattr(error, "response", None)
        return {
            "class": type(error).__name__,
            "classes": [kind.__name__ for kind in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "type": getattr(error, "type", None),
            "request_id": getattr(error, "request_id", None),
            "retry_after": response.headers.get("retry-after") if response is not None else None,
            "headers": dict(response.headers) if response is not None else {},
            "body": getattr(error, "body", None),
            "causes": causes,
        }
    return {"class": "nothing"}


def tell(value):
    print(json.dumps(value, default=str))
