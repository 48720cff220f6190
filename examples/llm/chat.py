"""Asks the edge two questions with the OpenAI SDK: one plain, one streamed.

Nothing here knows that the traffic is split: the same code would talk to the model directly.
"""

import argparse
import os
import ssl
import time

from openai import DefaultHttpxClient, OpenAI

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("prompt", nargs="?", default="What is a river?")
args.add_argument("--user", default="ada", help="sent as x-user-id: the unit that keeps its variant")
args.add_argument("--edge", default=os.environ.get("WEIR_EDGE", "https://localhost:8443"))
args.add_argument("--ca", default=os.environ.get("WEIR_CA"), help="certificate to trust; the system's own if absent")
args.add_argument("--key", default=os.environ.get("WEIR_KEY"), help="a key of role client (or set WEIR_KEY)")
args.add_argument("--model", default="chat")
args.add_argument("--max-tokens", type=int, default=80)
args = args.parse_args()
if not args.key:
    raise SystemExit("no key: set WEIR_KEY to what `weir key create` printed")

client = OpenAI(
    base_url=f"{args.edge}/v1",
    api_key=args.key,
    default_headers={"x-user-id": args.user},
    # The SDK's own HTTP client, but trusting our certificate; names are still checked against it.
    http_client=DefaultHttpxClient(verify=ssl.create_default_context(cafile=args.ca)),
    max_retries=0,  # a retry would hide from us what the gateway did
)
question = {"model": args.model, "messages": [{"role": "user", "content": args.prompt}], "max_tokens": args.max_tokens}

raw = client.chat.completions.with_raw_response.create(**question)
answer = raw.parse()
print("plain:   ", answer.choices[0].message.content)
print("         ", answer.choices[0].finish_reason, answer.usage.total_tokens, "tokens, from", answer.system_fingerprint)
print("          request", raw.headers.get("x-request-id"))

began = time.monotonic()
first = usage = None
print("streamed: ", end="")
with client.chat.completions.create(**question, stream=True, stream_options={"include_usage": True}) as stream:
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic() - began
                print(choice.delta.content, end="", flush=True)
print(f"\n          first token after {first or 0:.2f} s, {usage.completion_tokens} tokens in {time.monotonic() - began:.2f} s")
