"""Calls the edge with grpcio in every way the test asks for, and tells what came back."""

import collections
import queue
import time
import urllib.parse

import grpc
from edge import CA, EDGE, KEY, tell
from mlserver.grpc import dataplane_pb2 as v2
from mlserver.grpc import dataplane_pb2_grpc as service

target = urllib.parse.urlsplit(EDGE).netloc
options = [("grpc.max_receive_message_length", 16 << 20)]
with open(CA, "rb") as file:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()), options)
stub = service.GRPCInferenceServiceStub(channel)
count = channel.unary_stream("/weir.test.Counter/Count")


def metadata(user="ada", key=KEY):
    return (("authorization", f"Bearer {key}"), ("x-user-id", user), ("x-trace-bin", b"\x01\x02"))


def infer(model="echo", user="ada", key=KEY, stub=stub, content=b"hello", id="1", **more):
    request = v2.ModelInferRequest(model_name=model, id=id, raw_input_contents=[content])
    return stub.ModelInfer.with_call(request, metadata=metadata(user, key), timeout=more.pop("timeout", 20), **more)


def refused(call):
    began = time.monotonic()
    try:
        call()
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details(), "took": time.monotonic() - began,
                "trailers": {key: str(value) for key, value in error.trailing_metadata() or ()}}
    return {"code": "OK"}


answer, call = infer()
large = bytes(range(256)) * 16384  # 4 MiB
echoed, _ = infer(content=large)

began, times, numbers = time.monotonic(), [], []
counted = count(b"8", metadata=metadata(), timeout=20)
for number in counted:
    numbers.append(int(number))
    times.append(time.monotonic() - began)

# A conversation: the second question is asked only after the first answer came.
asked, answers = queue.Queue(), []
talk = stub.ModelStreamInfer(iter(asked.get, None), metadata=metadata(), timeout=20)
for turn in range(5):
    asked.put(v2.ModelInferRequest(model_name="echo", id=f"turn {turn}"))
    answers.append(next(talk).id)
asked.put(None)
ending = list(talk)

left = count(b"400", metadata=metadata(), timeout=60)
next(left), next(left)
left.cancel()

untrusting = service.GRPCInferenceServiceStub(grpc.secure_channel(target, grpc.ssl_channel_credentials()))
tell({
    "unary": {"version": answer.model_version, "content": answer.raw_output_contents[0].decode(),
              "code": call.code().name, "initial": {k: str(v) for k, v in call.initial_metadata()},
              "trailing": {k: str(v) for k, v in call.trailing_metadata()}},
    "large": echoed.raw_output_contents[0] == large,
    "stream": {"numbers": numbers, "times": times, "code": counted.code().name,
               "trailing": dict(counted.trailing_metadata())},
    "talk": {"answers": answers, "ending": len(ending), "code": talk.code().name},
    "versions": collections.Counter(infer(user=f"user-{user}")[0].model_version for user in range(120)),
    "errors": {
        "no such model": refused(lambda: infer("nobody")),
        "wrong key": refused(lambda: infer(key="weir_this_is_no_key")),
        "not routed": refused(lambda: channel.unary_unary("/other.Service/Call")(b"", metadata=metadata(), timeout=5)),
        "not implemented": refused(lambda: stub.RepositoryIndex(v2.RepositoryIndexRequest(), metadata=metadata(), timeout=5)),
        "too late": refused(lambda: infer("slow", id="late", timeout=0.3)),
        "no server": refused(lambda: channel.unary_unary("/gone.Service/Call")(b"", metadata=metadata(), timeout=5)),
        "no certificate": refused(lambda: infer(stub=untrusting, timeout=5)),
    },
})
