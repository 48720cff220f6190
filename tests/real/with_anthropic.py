"""Calls the edge with Anthropic's SDK in every way the test asks for, and tells what came back."""

import time

from anthropic import Anthropic, DefaultHttpxClient
from edge import EDGE, KEY, refused, tell, trusting


def client(key=KEY, **more):
    return Anthropic(**{
        "base_url": EDGE,
        "api_key": key,
        "max_retries": 0,
        "http_client": DefaultHttpxClient(verify=trusting()),
        **more,
    })


def ask(client, model="claude", **more):
    return client.messages.create(
        model=model, max_tokens=64, messages=[{"role": "user", "content": "hi"}], **more)


ours = client()
whole = ask(ours)
began, times = time.monotonic(), []
with ours.messages.stream(model="claude", max_tokens=64, messages=[{"role": "user", "content": "hi"}]) as stream:
    for _ in stream.text_stream:
        times.append(time.monotonic() - began)
    final = stream.get_final_message()
    request_id = stream.response.headers["x-request-id"]

tell({
    "plain": {"text": whole.content[0].text, "stop": whole.stop_reason, "tokens": whole.usage.output_tokens},
    "streamed": {"text": final.content[0].text, "stop": final.stop_reason, "times": times,
                 "input": final.usage.input_tokens, "tokens": final.usage.output_tokens, "request_id": request_id},
    "bearer": ask(client(None, auth_token=KEY)).content[0].text,
    "errors": {
        "wrong key": refused(lambda: ask(client("weir_this_is_no_key"))),
        "no such model": refused(lambda: ask(ours, "nobody")),
        "busy model": refused(lambda: ask(ours, "busy")),
        "broken model": refused(lambda: ask(ours, "broken")),
        "full gateway": refused(lambda: ask(ours, "held")),
        "no certificate": refused(lambda: ask(client(http_client=DefaultHttpxClient()))),
    },
})
