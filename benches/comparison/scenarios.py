"""What is measured. A scenario runs one load against one started gateway and gives its figures."""

import json
import re
import subprocess
import time
from dataclasses import dataclass, field

from . import machine
from .systems import RELEASE, find

CONTENT = "x" * 440
BODY = '{"model":"chat","messages":[{"role":"user","content":"' + CONTENT + '"}]}'
WRK = """
wrk.method = "POST"
wrk.headers["authorization"] = "Bearer %s"
wrk.headers["content-type"] = "application/json"
local body = %s
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-user-id"] = "user-" .. (n %% 10000)
  return wrk.format(nil, "/v1/chat/completions", nil, body)
end
"""


class Bench:
    """Where a load runs: its cores, its folder, how long it takes."""

    def __init__(self, cores, folder, seconds):
        self.cores, self.folder, self.seconds = cores, folder, seconds
        self.ca = folder / "tls" / "edge.pem"
        (folder / "body.json").write_text(BODY)

    def run(self, command):
        done = subprocess.run(
            [str(part) for part in command], preexec_fn=machine.prepare(self.cores),
            capture_output=True, text=True, timeout=self.seconds * 10 + 60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def metered(self, started, command):
        """Output of `command`, and the CPU time that the gateway used meanwhile. What it still does
        after the last answer (storing outcomes) counts too."""
        before = machine.cpu_seconds(started.process.pid)
        began = time.monotonic()
        output = self.run(command)
        took = time.monotonic() - began
        time.sleep(0.3)
        return output, machine.cpu_seconds(started.process.pid) - before, took

    def load(self, started, *arguments, seconds=None, connections=16, path="/v1/chat/completions"):
        command = [RELEASE / "bench-load", "--to", f"127.0.0.1:{started.port}", "--ca", self.ca,
                   "--key", started.key, "--seconds", seconds or self.seconds,
                   "--connections", connections, "--path", path, *arguments]
        output, cpu, took = self.metered(started, command)
        return json.loads(output), cpu, took


def h1(bench, started):
    script = bench.folder / "post.lua"
    script.write_text(WRK % (started.key, json.dumps(BODY)))
    output, cpu, _ = bench.metered(started, [
        find("wrk"), "-t1", "-c16", f"-d{bench.seconds}s", "-s", script,
        f"https://127.0.0.1:{started.port}/v1/chat/completions",
    ])
    requests = int(re.search(r"(\d+) requests in", output)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output) or re.search(r"Socket errors: (.*)", output)
    if bad:
        raise RuntimeError(f"wrk: {bad[0]}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    return {"cpu_us": cpu / requests * 1e6, "per_second": rate}


def h2(bench, started):
    output, cpu, _ = bench.metered(started, [
        find("h2load"), "-c8", "-m10", "-t1", f"-D{bench.seconds}", "-d", bench.folder / "body.json",
        "-H", f"authorization: Bearer {started.key}", "-H", "content-type: application/json",
        "-H", "x-user-id: user-4711", f"https://127.0.0.1:{started.port}/v1/chat/completions",
    ])
    total = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
    done, succeeded, failed, errored = (int(n) for n in total.groups())
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if failed or errored or int(statuses[3]) or int(statuses[4]) or not succeeded:
        raise RuntimeError(f"h2load: {total[0]}; {statuses[0]}")
    rate = float(re.search(r"finished in [^,]+, ([\d.]+) req/s", output)[1])
    return {"cpu_us": cpu / done * 1e6, "per_second": rate}


def latency(bench, started, *more):
    found, cpu, _ = bench.load(started, "rate", "--rate", 4000, *more)
    return {**{name: found[name] for name in ("p50_us", "p99_us", "p999_us")},
            "cpu_us": cpu / found["requests"] * 1e6}


def latency_bursts(bench, started):
    return latency(bench, started, "--bursts")


def handshakes(bench, started, *more):
    found, cpu, took = bench.load(started, "handshakes", *more, connections=8)
    return {"cpu_us": cpu / found["requests"] * 1e6, "per_second": found["requests"] / took,
            "resumed": found["resumed"] / found["requests"]}


def handshakes_resumed(bench, started):
    return handshakes(bench, started, "--resumed")


def idle(bench, started):
    pid, count = started.process.pid, 5000
    # What a process touches once, at its first requests, belongs to no connection.
    h1(bench, started)
    command = [RELEASE / "bench-load", "--to", f"127.0.0.1:{started.port}", "--ca", bench.ca,
               "--key", started.key, "--connections", count, "idle"]
    before = machine.memory_kib(pid)
    load = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=machine.prepare(bench.cores),
    )
    try:
        if load.stdout.readline() != b"ready\n":
            raise RuntimeError("bench-load: the connections could not be opened")
        # Connections to backends that are no longer used go meanwhile.
        time.sleep(3)
        after = machine.memory_kib(pid)
    finally:
        load.stdin.close()
        load.wait(60)
    return {"kib": (after - before) / count}


def streams(bench, started):
    # 200 events, 5 ms apart, on 32 streams: about 6,000 events a second.
    found, cpu, _ = bench.load(started, "streams", connections=32, path="/stream")
    chunks = found["requests"] * 200
    return {"cpu_us": cpu / chunks * 1e6, "first_p50_us": found["first_p50_us"],
            "first_p99_us": found["first_p99_us"], "pieces": found["pieces"] / found["requests"]}


def bodies_up(bench, started):
    found, cpu, took = bench.load(started, "bodies", "--send", 1 << 20, connections=4)
    return {"cpu_us": cpu / found["requests"] * 1e6, "per_second": found["requests"] / took}


def bodies_down(bench, started):
    found, cpu, took = bench.load(started, "bodies", connections=4, path="/large")
    return {"cpu_us": cpu / found["requests"] * 1e6, "per_second": found["requests"] / took}


@dataclass
class Scenario:
    """`figures` are in the order of the table; the first is the one that is judged."""

    name: str
    what: str
    run: object
    figures: list
    workers: int = 1
    # Weir against itself, by name of the variation; the first is the base. Empty: against the peers.
    variations: dict = field(default_factory=dict)


CPU = ("cpu_us", "CPU µs per request")
RATE = ("per_second", "requests/s")
TAIL = [("p99_us", "p99 µs"), ("p50_us", "p50 µs"), ("p999_us", "p99.9 µs"), CPU]

SCENARIOS = [
    Scenario("h1", "HTTP/1.1, kept connections, 16 at a time (wrk)", h1, [CPU, RATE]),
    Scenario("h2", "HTTP/2, 8 connections of 10 streams (h2load)", h2, [CPU, RATE]),
    Scenario("latency", "4,000 requests/s over 16 connections, evenly spread", latency, TAIL),
    Scenario("latency-bursts", "4,000 requests/s, all 16 connections at once", latency_bursts, TAIL),
    Scenario("handshakes", "new connection, full handshake, one request", handshakes, [CPU, RATE]),
    Scenario("handshakes-resumed", "new connection, resumed session, one request", handshakes_resumed,
             [CPU, RATE, ("resumed", "share resumed")]),
    Scenario("idle", "5,000 idle TLS connections, each after one request", idle, [("kib", "KiB per connection")]),
    Scenario("streams", "event streams of 200 chunks, 32 at a time", streams,
             [("cpu_us", "CPU µs per chunk"), ("first_p50_us", "first byte p50 µs"),
              ("first_p99_us", "first byte p99 µs"), ("pieces", "reads per stream")]),
    Scenario("bodies-up", "request bodies of 1 MiB", bodies_up, [CPU, RATE]),
    Scenario("bodies-down", "response bodies of 1 MiB", bodies_down, [CPU, RATE]),
    Scenario("h1-two", "HTTP/1.1, two workers", h1, [CPU, RATE], workers=2),
    Scenario("h2-two", "HTTP/2, two workers", h2, [CPU, RATE], workers=2),
    Scenario("recording", "Weir: recording", h1, [CPU, RATE], variations={
        "off": {"recording": "off"}, "async": {"recording": "async"}, "group": {}}),
    Scenario("tracing", "Weir: share of requests traced", h1, [CPU, RATE], variations={
        "0": {"ratio": 0}, "0.01": {"ratio": 0.01}, "1": {"ratio": 1}}),
    Scenario("shadow", "Weir: share of requests copied", h1, [CPU, RATE], variations={
        "0 %": {}, "10 %": {"shadow": 10}}),
    Scenario("access-log", "Weir: access log", h1, [CPU, RATE], variations={
        "off": {}, "to a file": {"access_log": "file:access.log"}}),
    Scenario("routes", "Weir: number of routes", h1, [CPU, RATE], variations={
        "1": {}, "10": {"routes": 10}, "100": {"routes": 100}, "1,000": {"routes": 1000}}),
    Scenario("variants", "Weir: number of variants", h1, [CPU, RATE], variations={
        "2": {}, "10": {"variants": 10}, "64": {"variants": 64}}),
]
