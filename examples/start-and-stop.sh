# What both examples do: start processes, wait for them with a deadline, put the gateway in front,
# and stop everything on the way out. Sourced by `llm/run` and `mlserver/run`.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/weir-examples"
work=""       # scratch folder of this run, removed at the end
children=()   # in the order they were started; stopped in reverse, so the gateway drains first

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
wrong_usage() { say "error: $*"; say "try: $0 --help"; exit 2; }

# need COMMAND HINT: stops with the hint when the command is missing.
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is not installed: $2"; }

need_python() {
  need python3 "Python 3.11 or newer is needed (python.org, or your system's package manager)"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$(python3 --version) is too old: 3.11 or newer is needed"
}

# is_port WORD: a TCP port; 0 asks for a free one.
is_port() { [[ $1 =~ ^[0-9]{1,5}$ ]] && ((10#$1 <= 65535)); }

# free_ports N: N loopback ports that are free now, all different because all are held at once.
free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))
PY
}

# start COMMAND…: runs it in the background and leaves its process id in $started.
#
# In a session of its own, so that Ctrl-C reaches only this script, which then stops everything in
# order; and tied to this script, so that nothing is left behind if this script is killed outright.
start() {
  local tied=()
  if setpriv --pdeathsig TERM true 2>/dev/null; then tied=(setpriv --pdeathsig TERM); fi
  setsid ${tied[@]+"${tied[@]}"} "$@" </dev/null 8>&- &   # 8: see take_data_folder
  started=$!
  children+=("$started")
}

# running PID: whether a process started here still runs. Asks the shell's own table, not the
# system's, where the number may by now belong to somebody else.
running() { jobs -pr | grep -qx "$1"; }

# wait_until SECONDS PID TEST…: 0 when the test holds, 1 if the process ended or time ran out.
wait_until() {
  local deadline=$((SECONDS + $1)) pid=$2
  shift 2
  until "$@"; do
    running "$pid" || return 1
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

# stop PID SECONDS: asks the process and what it started to end, and insists after the deadline.
stop() {
  local pid=$1 deadline=$((SECONDS + $2))
  running "$pid" || return 0
  kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || true
  while running "$pid"; do
    if ((SECONDS >= deadline)) || [ -n "${impatient:-}" ]; then break; fi
    sleep 0.1
  done
  kill -KILL -- "-$pid" 2>/dev/null || true   # what outlived its parent (npm does), or the deadline
  wait "$pid" 2>/dev/null || true
}

stop_all() {
  local status=$? i
  trap - EXIT
  trap 'impatient=1' INT TERM HUP   # a second Ctrl-C does not wait for the drain
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do stop "${children[i]}" 35; done
  [ -z "$work" ] || rm -rf "$work"
  exit "$status"
}

# Call once, before anything is started.
stop_everything_at_the_end() {
  need setsid "it comes with util-linux"
  need flock "it comes with util-linux"
  work=$(mktemp -d "${TMPDIR:-/tmp}/weir-example.XXXXXX")
  trap stop_all EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# install_once: runs this script again with --install-only, in the background, so that a signal does
# not have to wait for a download.
install_once() {
  start "$BASH" "$0" --install-only
  wait "$started" || die "the installation failed; nothing was started"
}

# find_weir: leaves the gateway's path in $weir. Looks at WEIR_BIN, this checkout's builds, PATH.
find_weir() {
  local examples candidate
  examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  for candidate in "${WEIR_BIN:-}" "$examples/../target/release/weir" "$examples/../target/debug/weir"; do
    [ -n "$candidate" ] || continue
    if [ -x "$candidate" ]; then weir=$(cd "$(dirname "$candidate")" && pwd)/$(basename "$candidate"); return; fi
  done
  weir=$(command -v weir) || die "the gateway is not built yet: run 'cargo build --release', or set WEIR_BIN; --servers-only starts the models without it"
}

# throw_away_certificate FOLDER: a self-signed certificate for localhost, kept for its 30 days.
throw_away_certificate() {
  need openssl "it makes the throw-away certificate"
  if [ -f "$1/edge.key" ] && openssl x509 -in "$1/edge.pem" -noout -checkend 86400 >/dev/null 2>&1; then return; fi
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
      -keyout "$1/edge.key.part" -out "$1/edge.pem.part" \
      -subj "/CN=localhost" -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
      -addext "basicConstraints=critical,CA:FALSE" -addext "extendedKeyUsage=serverAuth" 2>"$1/openssl.log"
  ) || die "openssl could not make a certificate: $(cat "$1/openssl.log")"
  mv "$1/edge.key.part" "$1/edge.key"
  mv "$1/edge.pem.part" "$1/edge.pem"
  rm -f "$1/openssl.log"
}

# serve CONFIG FOLDER EDGE_PORT ADMIN_PORT: the gateway in front of what runs already; returns when
# any of the processes ends. Writes FOLDER/env, to be sourced in a second terminal.
serve() {
  local config=$1 data=$2 pid status=0
  [ "$3" != 0 ] || set -- "$1" "$2" "$(free_ports 1)" "$4"
  [ "$4" != 0 ] || set -- "$1" "$2" "$3" "$(free_ports 1)"
  throw_away_certificate "$data"
  # The first admin key of an empty store. It is the store's from then on, so it is kept beside it.
  [ -s "$data/admin.key" ] || (umask 077 && openssl rand -hex 24 >"$data/admin.key")
  export EXAMPLE_DATA=$data EDGE_PORT=$3 ADMIN_PORT=$4
  (
    umask 077
    {
      printf 'export WEIR_EDGE=%q\n' "https://localhost:$3"
      printf 'export WEIR_CA=%q\n' "$data/edge.pem"
      printf 'export WEIR_ADMIN=%q\n' "http://127.0.0.1:$4"
      printf 'export WEIR_TOKEN=%q\n' "$(cat "$data/admin.key")"
      printf 'export PATH=%q:$PATH\n' "$(dirname "$weir")"
    } >"$data/env"
  )
  WEIR_ADMIN_KEY=$(cat "$data/admin.key") start "$weir" serve --config "$config"
  pid=$started
  wait_until 30 "$pid" port_answers "$3" || die "the gateway did not start; its reasons are above"
  say "in a second terminal:  . $(printf %q "$data/env")"
  say "then follow README.md from step 2; Ctrl-C here stops everything"
  wait_for_any || status=$?
  return "$status"
}

# port_answers PORT: whether something accepts connections there.
port_answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_for_any: until one of the long-running processes ends; then 1, because none of them should.
wait_for_any() {
  local pid
  while :; do
    for pid in "${servers[@]}" "${started}"; do
      running "$pid" || { say "a process ended by itself; stopping the others"; return 1; }
    done
    sleep 0.3
  done
}

# take_data_folder FOLDER: makes it and holds it until this script ends.
take_data_folder() {
  mkdir -p "$1"
  exec 8>"$1/lock"
  flock -n 8 || die "another run uses $1: stop it, or give this one its own folder with --data"
}
