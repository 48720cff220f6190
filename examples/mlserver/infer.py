"""Classifies flowers through the edge with NVIDIA's client for the Open Inference Protocol.

Sends each request as another user, checks every prediction, and counts which version answered.
"""

import argparse
import collections
import os
import urllib.parse

import numpy as np
import tritonclient.http as inference

# Lengths in cm of sepal, its width, petal, its width; typical of their species, so both versions know them.
FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [5.9, 2.8, 4.2, 1.3], [6.6, 3.0, 5.6, 2.1]])
SPECIES = [0, 1, 2]  # setosa, versicolor, virginica

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("--plain", metavar="HOST:PORT", help="talk to a model server directly, without TLS and key")
args.add_argument("--edge", default=os.environ.get("WEIR_EDGE", "https://localhost:8443"))
args.add_argument("--ca", default=os.environ.get("WEIR_CA"), help="certificate to trust; the system's own if absent")
args.add_argument("--key", default=os.environ.get("WEIR_KEY"), help="a key of role client (or set WEIR_KEY)")
args.add_argument("--users", type=int, default=40, help="how many users ask")
args = args.parse_args()

headers = {}
if args.plain:
    client = inference.InferenceServerClient(args.plain)
else:
    if not args.key:
        raise SystemExit("no key: set WEIR_KEY to what `weir key create` printed")
    headers["authorization"] = f"Bearer {args.key}"
    # With `ssl=True` alone the client makes gevent's default context, which checks the chain and the
    # name; `ca_certs` says whom to trust. (`ssl_options` also takes `certfile` and `keyfile` for a
    # client certificate, `ciphers`, and `server_hostname`; `insecure=True` would switch checking off.)
    client = inference.InferenceServerClient(
        urllib.parse.urlsplit(args.edge).netloc,
        ssl=True,
        ssl_options={"ca_certs": args.ca} if args.ca else None,
    )

with client:
    if not (client.is_server_ready(headers=headers) and client.is_model_ready("iris", headers=headers)):
        raise SystemExit("the model is not ready")

    flowers = inference.InferInput("predict", list(FLOWERS.shape), "FP64")
    # As JSON both ways: MLServer 1.7 does not read the protocol's binary extension.
    flowers.set_data_from_numpy(FLOWERS, binary_data=False)
    outputs = [inference.InferRequestedOutput("predict", binary_data=False)]

    versions, wrong = collections.Counter(), 0
    for user in range(args.users):
        answer = client.infer("iris", [flowers], outputs=outputs, headers={**headers, "x-user-id": f"user-{user}"})
        predicted = answer.as_numpy("predict").ravel().tolist()
        versions[answer.get_response()["model_version"]] += 1
        if predicted != SPECIES:
            wrong += 1
            print(f"user-{user}: predicted {predicted}, expected {SPECIES}")

print(f"{args.users} requests, {wrong} with a wrong prediction; answered by", ", ".join(
    f"{version}: {count}" for version, count in sorted(versions.items())))
raise SystemExit(1 if wrong else 0)
