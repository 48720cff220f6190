"""A model server that speaks gRPC: the Open Inference Protocol, and a counter for one-sided streams."""

import sys
import time
from concurrent import futures

import grpc
from mlserver.grpc import dataplane_pb2 as v2
from mlserver.grpc import dataplane_pb2_grpc as service

name = sys.argv[1]


class Server(service.GRPCInferenceServiceServicer):
    def ServerReady(self, request, context):
        return v2.ServerReadyResponse(ready=True)

    def ModelInfer(self, request, context):
        seen = dict(context.invocation_metadata())
        print("called", request.model_name, *sorted(seen), flush=True)
        if request.model_name == "nobody":
            context.set_trailing_metadata((("x-hint", "ask for echo"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no model “nobody”")
        if request.model_name == "slow":
            context.add_callback(lambda: print("left", request.id, flush=True))
            time.sleep(1)
        context.send_initial_metadata((("x-server", name),))
        context.set_trailing_metadata((("x-cost", "3"), ("x-raw-bin", b"\x00\xff")))
        return v2.ModelInferResponse(model_name=request.model_name, model_version=name, id=request.id,
                                     raw_output_contents=request.raw_input_contents)

    def ModelStreamInfer(self, requests, context):
        for request in requests:
            yield v2.ModelInferResponse(model_version=name, id=request.id)


def count(request, context):
    context.add_callback(lambda: print("stream over", request.decode(), flush=True))
    for number in range(int(request)):
        if not context.is_active():
            return
        yield str(number).encode()
        time.sleep(0.05)
    context.set_trailing_metadata((("x-counted", request.decode()),))


server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 16 << 20)])
service.add_GRPCInferenceServiceServicer_to_server(Server(), server)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
    "weir.test.Counter", {"Count": grpc.unary_stream_rpc_method_handler(count)}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("ready", port, flush=True)
server.wait_for_termination()
