"""Calls the edge with the OpenAI SDK in every way the test asks for, and tells what came back."""

import asyncio
import os
import time

from edge import EDGE, KEY, refused, tell, trusting
from openai import AsyncOpenAI, AzureOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

MESSAGES = [{"role": "user", "content": "hi"}]


def client(key=KEY, **more):
    return OpenAI(**{
        "base_url": f"{EDGE}/v1",
        "api_key": key,
        "max_retries": 0,
        "default_headers": {"x-user-id": "ada"},
        "http_client": DefaultHttpxClient(verify=trusting()),
        **more,
    })


def chat(client, model="chat", **more):
    return client.chat.completions.create(model=model, messages=MESSAGES, **more)


def streamed(client, **more):
    began = time.monotonic()
    usage, finish, times, text = None, None, [], ""
    raw = client.chat.completions.with_raw_response.create(
        model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **more)
    for chunk in raw.parse():
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if choice.delta.content:
                times.append(time.monotonic() - began)
                text += choice.delta.content
    return {"text": text, "times": times, "finish": finish, "tokens": usage.completion_tokens,
            "request_id": raw.headers["x-request-id"], "kind": raw.headers["content-type"]}


async def concurrently():
    async with AsyncOpenAI(base_url=f"{EDGE}/v1", api_key=KEY, max_retries=0,
                           http_client=DefaultAsyncHttpxClient(verify=trusting())) as client:
        answers = await asyncio.gather(*(
            client.chat.completions.create(model="chat", messages=MESSAGES, extra_headers={"x-user-id": f"u{user}"})
            for user in range(20)))
    return [answer.choices[0].message.content for answer in answers]


ours = client()
raw = ours.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
plain = raw.parse()
answer = ours.responses.create(model="chat", input="hi")
events = list(ours.responses.create(model="chat", input="hi", stream=True))
azure = AzureOpenAI(azure_endpoint=EDGE, api_key=KEY, api_version="2024-10-21", max_retries=0,
                    http_client=DefaultHttpxClient(verify=trusting()))
limited = client(os.environ["LIMITED_KEY"])

tell({
    "plain": {"text": plain.choices[0].message.content, "tokens": plain.usage.completion_tokens,
              "model": plain.model, "request_id": raw.headers["x-request-id"]},
    "streamed": streamed(ours),
    "completion": ours.completions.create(model="chat", prompt="hi").choices[0].text,
    "embedding": ours.embeddings.create(model="chat", input="hi").data[0].embedding,
    "models": [model.id for model in ours.models.list()],
    "responses": {"text": answer.output_text, "tokens": answer.usage.output_tokens,
                  "events": [event.type for event in events]},
    "azure": chat(azure, "chat").choices[0].message.content,
    "async": asyncio.run(concurrently()),
    # The SDK's own retry, of a model server that is busy for a moment.
    "retried": chat(client(max_retries=2), "flaky").choices[0].message.content,
    "errors": {
        "wrong key": refused(lambda: chat(client("weir_this_is_no_key"))),
        "no such model": refused(lambda: chat(ours, "nobody")),
        "no such path": refused(lambda: ours.audio.speech.create(model="chat", voice="alloy", input="hi")),
        "not granted": refused(lambda: chat(client(os.environ["OTHER_KEY"]))),
        "limited": [refused(lambda: chat(limited)) for _ in range(3)],
        "busy model": refused(lambda: chat(ours, "busy")),
        "broken model": refused(lambda: chat(ours, "broken")),
        "no model server": refused(lambda: chat(ours, "gone")),
        "broken stream": refused(lambda: list(chat(ours, "cut", stream=True))),
        "no certificate": refused(lambda: chat(client(http_client=DefaultHttpxClient()))),
    },
})
