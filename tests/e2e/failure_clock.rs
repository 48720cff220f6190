//! A wall clock that jumps while requests run (F25).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use weir_tests::{Client, Process, backend, gateway, millis, seconds, until_async};

use crate::recording::{database, is_stored, request_id, split};

/// Stands before libc's `clock_gettime`: SIGUSR1 sets the wall clock of one process an hour forward,
/// SIGUSR2 an hour back. The other clocks go on as they are.
const CLOCK: &str = r"
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t hours;
static void forward(int number) { (void)number; hours += 1; }
static void back(int number) { (void)number; hours -= 1; }

__attribute__((constructor)) static void begin(void) {
    signal(SIGUSR1, forward);
    signal(SIGUSR2, back);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && clock == CLOCK_REALTIME) time->tv_sec += 3600L * hours;
    return failed;
}
";

/// The library that holds [`CLOCK`]; none without a C compiler.
fn clock_in(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let mut made = Command::new("cc");
    made.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    made.status().is_ok_and(|status| status.success()).then_some(library)
}

/// The wall clock of the process, whole seconds since 1970: what its newest row says.
async fn wall_clock(weir: &Process, client: &Client) -> i64 {
    let id = request_id(&client.get("/rest/clock").await);
    let path = format!("/api/v1/requests/{id}");
    until_async(seconds(5), async || weir.api().get(&path).await.status == 200).await;
    let row = weir.api().get(&path).await.json();
    let time = row["timestamp"].as_str().unwrap();
    let clock = |from: usize| time[from..from + 2].parse::<i64>().unwrap();
    // Hours of the day are enough to see a jump of one.
    clock(11) * 3600 + clock(14) * 60 + clock(17)
}

#[tokio::test]
async fn f25_a_clock_that_jumps_ends_nothing_and_every_row_is_there_once() {
    let talks = backend().openai("m").pieces(60).gap(millis(50));
    let model = backend().answers("x").on("/v1/chat/completions", talks).start().await;
    let prepared = gateway(split(&model, &model)).write();
    let Some(library) = clock_in(&prepared.dir) else {
        println!("SKIPPED: no C compiler");
        return;
    };
    let weir = prepared.spawn_with(&[("LD_PRELOAD", library.to_str().unwrap())]).await;
    let client = weir.client(&weir.make_key("client").await);
    let body = json!({"name": "short", "role": "client", "expires_in_seconds": 1800}).to_string();
    let short = weir.api().post("/api/v1/keys", body).await.json()["secret"].clone();
    let short = weir.anonymous().bearer(short.as_str().unwrap());
    let known = async || short.get("/rest/known").await.status.as_u16();

    let began = wall_clock(&weir, &client).await;
    assert_eq!(known().await, 200);
    let body = json!({"model": "m", "messages": [], "stream": true}).to_string();
    let stream = {
        let client = client.apart();
        tokio::spawn(async move { client.post("/v1/chat/completions", body).await })
    };
    let mut ids = Vec::new();
    // An hour ahead, an hour behind, and where it belongs. One signal at a time: of two that are
    // pending, one is lost.
    for (signal, hour, known_now) in
        [("USR1", 1, 401), ("USR2", 0, 200), ("USR2", -1, 200), ("USR1", 0, 200)]
    {
        weir.signal(signal);
        let expected = (began + hour * 3600).rem_euclid(86_400);
        until_async(seconds(5), async || {
            let off = (wall_clock(&weir, &client).await - expected).rem_euclid(86_400);
            if off < 60 { Ok(()) } else { Err(format!("{off} s beside {hour} h")) }
        })
        .await;
        for _ in 0..30 {
            let answer = client.post("/v1/messages", "{}").await;
            assert_eq!(answer.status, 200);
            ids.push(request_id(&answer));
        }
        assert_eq!(known().await, known_now, "what expires goes by the wall clock: {hour} h");
    }
    let stream = stream.await.unwrap();
    assert!(stream.status == 200 && stream.error.is_none(), "{stream:?}");
    assert!(stream.text().ends_with("data: [DONE]\n\n"), "{}", stream.text());
    ids.push(request_id(&stream));

    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    until_async(seconds(5), async || {
        let accounts = weir.get("/status").await["recording"].clone();
        let rest = accounts["pending"] == 0 && accounts["assigned"] == accounts["recorded"];
        if rest { Ok(()) } else { Err(accounts.to_string()) }
    })
    .await;
    let database = database(&prepared.dir);
    assert_eq!(ids.iter().filter(|id| !is_stored(&database, id)).count(), 0);
    // Microseconds, by the clock that does not jump.
    let (least, most, greatest, stored): (i64, i64, i64, i64) = database
        .query_row(
            "SELECT min(t_total), max(t_total), max(seq), count(*) FROM requests WHERE seq > 0",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert!(least >= 0 && most < 600_000_000, "{least} to {most}");
    assert_eq!(greatest, stored, "no gap");
}
