"""Streams from a language model with the OpenAI SDK; tells when each piece came, by the wall clock."""

import os
import sys
import time

from edge import EDGE, KEY, tell, trusting
from openai import DefaultHttpxClient, OpenAI

how, user, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = OpenAI(base_url=f"{EDGE}/v1", api_key=KEY, max_retries=0, default_headers={"x-user-id": user},
                http_client=DefaultHttpxClient(verify=trusting()))
question = {"model": "chat", "max_tokens": tokens, "temperature": 0,
            "messages": [{"role": "user", "content": "Tell me a long story about a river."}]}

if how == "plain":
    raw = client.chat.completions.with_raw_response.create(**question)
    answer = raw.parse()
    tell({"request_id": raw.headers["x-request-id"], "text": answer.choices[0].message.content,
          "finish": answer.choices[0].finish_reason, "tokens": answer.usage.completion_tokens,
          "prompt": answer.usage.prompt_tokens, "fingerprint": answer.system_fingerprint})
    raise SystemExit

began = time.time()
raw = client.chat.completions.with_raw_response.create(
    **question, stream=True, stream_options={"include_usage": True})
stream, times, text, usage, finish = raw.parse(), [], "", None, None
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        times.append(time.time())
        text += chunk.choices[0].delta.content
    if chunk.choices:
        finish = chunk.choices[0].finish_reason or finish
    usage = chunk.usage or usage
    if how == "leave" and len(times) == 10:
        stream.close()
        break
tell({"request_id": raw.headers["x-request-id"], "began": began, "times": times, "text": text, "finish": finish,
      "tokens": usage and usage.completion_tokens, "prompt": usage and usage.prompt_tokens})
