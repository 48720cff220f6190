//! SmolLM2, twice, behind the gateway: real tokens at the pace of a real model.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::{Client, Gateway, gateway, millis, seconds, together, until, until_async};

use crate::setup::{Program, root, script, the_machine, told};
use crate::tee::Tee;

/// The two model servers of the example, each with a clock in its wire.
struct Models {
    servers: [SocketAddr; 2],
    tees: [Tee; 2],
    _program: Program,
}

impl Models {
    async fn start() -> Self {
        let run = root().join("examples/llm/run").display().to_string();
        let mut program = Program::start(&[&run, "--servers-only"], &[]);
        let mut servers = Vec::new();
        for name in ["stable", "canary"] {
            let start = format!("ready {name} http://");
            servers.push(program.after(seconds(150), &start).await.parse().unwrap());
        }
        let tees = [Tee::start(servers[0]), Tee::start(servers[1])];
        Self { servers: [servers[0], servers[1]], tees, _program: program }
    }

    /// The gateway as the example sets it up, in front of the wires.
    async fn gateway(&self) -> Gateway {
        let text = std::fs::read_to_string(root().join("examples/llm/weir.toml")).unwrap();
        let (_, text) = text.split_at(text.find("[backends.").unwrap());
        let text = text
            .replace("${STABLE_PORT}", &self.tees[0].addr.port().to_string())
            .replace("${CANARY_PORT}", &self.tees[1].addr.port().to_string());
        gateway(text).start().await
    }

    async fn stats(&self, server: usize) -> Value {
        Client::plain(self.servers[server]).get("/stats").await.json()
    }

    fn forget(&self) {
        for tee in &self.tees {
            tee.take();
        }
    }
}

fn question(more: &Value) -> String {
    let mut body = json!({
        "model": "chat", "temperature": 0,
        "messages": [{ "role": "user", "content": "Tell me a long story about a river." }],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn middle(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn times(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect()
}

fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3).collect()
}

/// Of ten pieces or so each, for whoever reads the output.
fn shown(numbers: &[f64]) -> String {
    numbers.iter().take(24).map(|n| format!("{n:.1}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn tokens_arrive_as_the_model_makes_them() {
    let _turn = the_machine().await;
    let models = Models::start().await;
    let gateway = models.gateway().await;
    let env = told(&gateway);

    let plain = script("stream_llm.py", &["plain", "ada", "40"], &env).await;
    models.forget();
    let streamed = script("stream_llm.py", &["stream", "ada", "120"], &env).await;
    let heard = models.tees.each_ref().map(Tee::take);
    let said = heard.iter().find(|heard| !heard.pieces.is_empty()).unwrap();

    // The same model with the same words gives the same text, whichever way it is asked.
    let (whole, longer) = (plain["text"].as_str().unwrap(), streamed["text"].as_str().unwrap());
    assert!(longer.starts_with(whole), "{whole:?} is not the beginning of {longer:?}");
    assert_eq!((&plain["tokens"], &plain["finish"]), (&json!(40), &json!("length")));

    // Piece by piece: when the model said it, and when the client had it.
    let had = times(&streamed["times"]);
    assert_eq!(had.len(), said.pieces.len(), "no piece is lost or joined");
    let late: Vec<f64> =
        had.iter().zip(&said.pieces).map(|(had, said)| (had - said) * 1e3).collect();
    let before_next = had.iter().zip(&said.pieces[1..]).filter(|(had, next)| had < next).count();
    eprintln!("model  gaps ms: {}", shown(&gaps(&said.pieces)));
    eprintln!("client gaps ms: {}", shown(&gaps(&had)));
    eprintln!("delay model server to SDK ms: {}", shown(&late));
    eprintln!(
        "{} pieces; middle gap {:.1} ms at the model, {:.1} ms at the client; delay {:.2} ms in \
         the middle, {:.2} ms at most; {before_next} had before the model said the next",
        had.len(),
        middle(&gaps(&said.pieces)),
        middle(&gaps(&had)),
        middle(&late),
        late.iter().copied().fold(0.0, f64::max),
    );
    assert!(middle(&late) < 10.0, "the SDK has a piece {:.1} ms after the model", middle(&late));
    assert!(before_next * 10 >= (had.len() - 1) * 9, "{before_next} of {} in time", had.len() - 1);

    // The row says what the SDK was told.
    let id = streamed["request_id"].as_str().unwrap();
    gateway.accounts().await;
    let row = gateway.get(&format!("/requests/{id}")).await;
    for (member, value) in [
        ("outcome", json!("ok")),
        ("stream.complete", json!(true)),
        ("gen_ai.usage.output_tokens", streamed["tokens"].clone()),
        ("gen_ai.usage.input_tokens", streamed["prompt"].clone()),
        ("usage.source", json!("reported")),
        ("gen_ai.response.finish_reason", streamed["finish"].clone()),
        ("gen_ai.request.model", json!("chat")),
        ("gen_ai.response.model", json!("smollm2-135m")),
        ("experiment", json!("brevity")),
    ] {
        assert_eq!(row[member], value, "{member}: {row}");
        assert!(!value.is_null(), "{member}");
    }
    assert_eq!(streamed["tokens"], 120);
    let micros = |member: &str| row[member].as_f64().unwrap();
    let first = (had[0] - streamed["began"].as_f64().unwrap()) * 1e6;
    assert!(micros("t_first_byte") > 1e3 && micros("t_first_byte") <= first, "{first}: {row}");
    assert!(micros("t_first_token") <= first, "{first}: {row}");
    let stream = (had[had.len() - 1] - had[0]) * 1e6;
    assert!((micros("t_stream") - stream).abs() < 0.25 * stream, "{stream}: {row}");
    let sum = micros("t_first_token") + micros("t_stream");
    assert!((micros("t_total") - sum).abs() < 1e3, "{row}");
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_model() {
    let _turn = the_machine().await;
    let models = Models::start().await;
    let gateway = models.gateway().await;
    let body = question(&json!({ "stream": true, "max_tokens": 900 }));

    let mut seen = Vec::new();
    for round in 0..8 {
        let client = if round % 2 == 0 { gateway.client() } else { gateway.client().h2() };
        let before = [models.stats(0).await, models.stats(1).await];
        models.forget();
        let asked = client.post("/v1/chat/completions", body.clone()).header("x-user-id", "leaver");
        let mut answer = asked.open().await.unwrap();
        assert_eq!(answer.status(), 200);
        for _ in 0..6 {
            answer.chunk().await.unwrap();
        }
        let (id, server) = (answer.header("x-request-id").unwrap().to_owned(), {
            let heard = models.tees[0].take();
            usize::from(heard.pieces.is_empty())
        });
        let left = Instant::now();
        drop(answer);
        let tee = &models.tees[server];
        until(seconds(5), || tee.left().is_some()).because("the gateway leaves the model").await;
        let told = tee.left().unwrap() - left;
        let cancelled = |stats: &Value| stats["cancelled"].as_u64().unwrap();
        until_async(seconds(5), async || {
            cancelled(&models.stats(server).await) == cancelled(&before[server]) + 1
        })
        .await;
        let stopped = left.elapsed();
        seen.push((told, stopped));

        gateway.accounts().await;
        let row = gateway.get(&format!("/requests/{id}")).await;
        assert_eq!(row["outcome"], "client_aborted", "{row}");
        assert_eq!(row["error.type"], "client_aborted", "{row}");
        assert_eq!(row["http.response.status_code"], 499, "{row}");
        assert_eq!(row["stream.complete"], false);
        assert_eq!(row["usage.source"], "estimated", "{row}");
        let tokens = row["gen_ai.usage.output_tokens"].as_u64().unwrap();
        assert!((5..60).contains(&tokens), "{row}");
        let active = models.stats(server).await["active"].clone();
        assert_eq!(active, 0, "the model works for nobody");
    }
    for (round, (told, stopped)) in seen.iter().enumerate() {
        let protocol = if round % 2 == 0 { "1.1" } else { "2" };
        eprintln!(
            "HTTP/{protocol} client left: model server told after {told:?}, cancelled seen after {stopped:?}"
        );
    }
    // The gateway at once; the model between two tokens, which on a busy machine lie far apart.
    assert!(seen.iter().all(|(told, _)| *told < millis(100)), "{seen:?}");
    let mut stopped: Vec<Duration> = seen.iter().map(|(_, stopped)| *stopped).collect();
    stopped.sort();
    assert!(stopped[4] < millis(100), "{stopped:?}");

    // One that leaves while a whole answer is made: nothing was sent to it yet.
    let whole = question(&json!({ "max_tokens": 900 }));
    let asked = gateway.client().post("/v1/chat/completions", whole).header("x-user-id", "hasty");
    assert!(asked.within(millis(700)).open().await.is_err());
    let idle =
        async || models.stats(0).await["active"] == 0 && models.stats(1).await["active"] == 0;
    until_async(millis(500), idle).await;
    let row = &gateway.outcomes("outcome=client_aborted").await[0];
    assert_eq!(row["http.response.status_code"], 499, "{row}");
    assert!(row["t_first_byte"].is_null() && row["gen_ai.usage.output_tokens"].is_null(), "{row}");
    // One that uses the SDK.
    let env = told(&gateway);
    let left = script("stream_llm.py", &["leave", "leaver", "900"], &env).await;
    let rows = gateway.outcomes("outcome=client_aborted").await;
    assert_eq!(rows.len(), 10, "{rows:?}");
    let of_sdk = rows.iter().find(|row| row["request_id"] == left["request_id"]).unwrap();
    assert!(of_sdk["gen_ai.usage.output_tokens"].as_u64().unwrap() >= 10, "{of_sdk}");
    until_async(seconds(5), idle).await;
}

#[tokio::test]
async fn users_keep_the_configuration_that_they_were_dealt() {
    let _turn = the_machine().await;
    let models = Models::start().await;
    let gateway = models.gateway().await;
    let client = gateway.client();
    let body = question(&json!({ "max_tokens": 1 }));
    let mut first: Vec<String> = Vec::new();
    for round in 0..2 {
        let users = if round == 0 { 120 } else { 40 };
        let asked = (0..users).map(|user| {
            let user = format!("user-{user}");
            client.post("/v1/chat/completions", body.clone()).header("x-user-id", &user)
        });
        let mut answers = Vec::new();
        let asked: Vec<_> = asked.collect();
        let mut asked = asked.into_iter();
        loop {
            let batch: Vec<_> = asked.by_ref().take(30).collect();
            if batch.is_empty() {
                break;
            }
            answers.extend(together(batch).await);
        }
        let prints: Vec<String> = answers
            .into_iter()
            .map(|answer| answer.unwrap().json()["system_fingerprint"].as_str().unwrap().to_owned())
            .collect();
        if round == 0 {
            first = prints;
        } else {
            assert_eq!(prints, first[..40], "a user keeps the variant");
        }
    }
    let rows = gateway.outcomes("experiment=brevity").await;
    assert_eq!(rows.len(), 160);
    assert!(rows.iter().all(|row| row["outcome"] == "ok"), "{rows:?}");
    let canary = gateway.outcomes("variant=canary").await.len();
    eprintln!("160 requests of 120 users, {canary} to the canary");
    let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
    assert_eq!(distinct.len(), 2, "both configurations answer");
    // And the rows agree with what the users saw.
    let rare = distinct.iter().map(|print| first.iter().filter(|p| p == print).count()).min();
    assert!(rare.unwrap() <= 30, "about a tenth of 120: {rare:?}");
    assert!((rare.unwrap()..=rare.unwrap() + 40).contains(&canary), "{canary}");
}
