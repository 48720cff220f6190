"""Instructions a request, counted by valgrind: a figure that does not depend on what else the machine
does. Two runs that differ only in the number of requests; what they differ by is the requests'."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from . import machine, systems
from .scenarios import BODY

KEPT = systems.ROOT / "benches" / "instructions.json"
FEW, MANY = 1000, 3000
# Two runs of one program differ by less: timers and batches fall differently.
TOLERANCE = 0.03


def main(write):
    """Counts, prints, and compares with the file; 1 if something became dearer."""
    lacking = [program for program in ("valgrind", "h2load", "openssl") if not systems.find(program)]
    if lacking or not all((systems.RELEASE / name).exists() for name in ("weir", "bench-backend")):
        print("bench-regression: needs valgrind, h2load and openssl, and a release build of weir and "
              "bench-backend (see benches/README.md); missing: " + (", ".join(lacking) or "the build"))
        return 2
    counted = {protocol: per_request(protocol) for protocol in ("h1", "h2")}
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    worse = False
    for protocol, count in counted.items():
        before = kept.get(protocol)
        change = "" if not before else f" ({count / before - 1:+.1%} against {before:,})"
        print(f"{protocol}: {count:,} instructions a request{change}")
        worse |= bool(before) and count > before * (1 + TOLERANCE)
    if write:
        KEPT.write_text(json.dumps(counted, indent=1) + "\n")
        print(f"written to {KEPT.relative_to(systems.ROOT)}")
        return 0
    if worse:
        print("dearer than the file says by more than 3 %: mend it, or say why and run with --write")
    return int(worse)


def per_request(protocol):
    return round((total(protocol, MANY) - total(protocol, FEW)) / (MANY - FEW))


def total(protocol, requests):
    """Instructions of a gateway that starts, answers `requests` requests and stops."""
    with tempfile.TemporaryDirectory(prefix="weir-instructions-") as folder:
        folder = Path(folder)
        (folder / "tls").mkdir()
        systems.certificate(folder / "tls")
        (folder / "body.json").write_text(BODY)
        cores = machine.layout(2)[1]
        backends = [systems.backend(cores, folder) for _ in range(2)]
        under = ["valgrind", "--tool=callgrind", "--callgrind-out-file=counts"]
        weir = None
        try:
            ports = [backend.port for backend in backends]
            weir = systems.weir(folder, 1, cores, ports, folder / "tls", {"ratio": 0}, under)
            command = [
                systems.find("h2load"), "-n", requests, "-c", 4, "-m", 1, "-d", folder / "body.json",
                "-H", f"authorization: Bearer {weir.key}", "-H", "content-type: application/json",
                "-H", "x-user-id: user-1", f"https://127.0.0.1:{weir.port}/v1/chat/completions",
            ]
            command += ["--h1"] if protocol == "h1" else []
            said = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
            if f"{requests} succeeded" not in said.stdout:
                raise SystemExit(f"bench-regression: {said.stdout}")
        finally:
            for started in [weir, *backends]:
                if started:
                    started.stop(60)
        summary = re.search(r"^(?:summary|totals): (\d+)", (folder / "counts").read_text(), re.M)
        return int(summary[1])
