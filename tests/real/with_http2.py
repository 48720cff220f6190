"""HTTP/2 as Python's httpx speaks it (hyper-h2 below, which checks what a server sends).

usage: with_http2.py     with WEIR_EDGE, WEIR_CA, WEIR_KEY; prints what came of it as JSON
"""

import asyncio
import hashlib
import json
import os
import ssl

import httpx

EDGE, KEY = os.environ["WEIR_EDGE"], os.environ["WEIR_KEY"]
HEADERS = {"authorization": "Bearer " + KEY}


async def echoed(client, number):
    """A body of its own size, and whether the backend got just that."""
    body = bytes((number * 7 + at) % 256 for at in range(number * number * 17 % 200_000))
    answer = await client.post(f"/echo/{number}", content=body, headers={"x-number": str(number)})
    seen = answer.json()
    fields = dict(seen["headers"])
    right = seen["sha256"] == hashlib.sha256(body).hexdigest() and fields["x-number"] == str(number)
    return answer.http_version, answer.status_code, right


async def main():
    context = ssl.create_default_context(cafile=os.environ["WEIR_CA"])
    limits = httpx.Limits(max_connections=1)
    found = {}
    async with httpx.AsyncClient(base_url=EDGE, http2=True, verify=context, limits=limits,
                                 headers=HEADERS, timeout=60) as client:
        found["echoed"] = await asyncio.gather(*(echoed(client, number) for number in range(90)))
        large = await client.get("/large")
        found["large"] = [len(large.content), large.headers["content-length"]]
        body = b"x" * (3 << 20)
        up = await client.post("/echo/up", content=body)
        found["up"] = up.json()["sha256"] == hashlib.sha256(body).hexdigest()
        pieces = []
        async with client.stream("GET", "/pieces") as answer:
            async for piece in answer.aiter_raw():
                pieces.append(piece.decode())
        found["pieces"] = pieces
        # One that is left in the middle does the others no harm.
        async with client.stream("GET", "/large") as answer:
            async for _ in answer.aiter_raw():
                break
        head = await client.head("/echo/head")
        found["head"] = [head.status_code, len(head.content)]
        refused = await client.get("/echo/x", headers={"authorization": "Bearer nobody"})
        found["refused"] = refused.status_code
    print(json.dumps(found))


asyncio.run(main())
