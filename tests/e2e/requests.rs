//! Stored outcomes, as the admin API finds and explains them.

use serde_json::{Value, json};
use weir_tests::{Answer, Gateway, backend, fault_proxy, gateway};

use crate::experiments::two;

const PATH: &str = "/v1/chat/completions";

async fn told(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.accounts().await;
    gateway.get(&format!("/requests/{}", answer.header("x-request-id").unwrap())).await
}

/// Where the phases of a request end, one after the other.
fn ends(row: &Value) -> Vec<(&str, i64)> {
    let mut at = None;
    let mut all = Vec::new();
    for phase in row["phases"].as_array().unwrap() {
        let (begin, end) = (phase["begin"].as_i64().unwrap(), phase["end"].as_i64().unwrap());
        assert!(begin < end && at.is_none_or(|at| at == begin), "{}", row["phases"]);
        at = Some(end);
        all.push((phase["phase"].as_str().unwrap(), end));
    }
    all
}

#[tokio::test]
async fn one_request_tells_its_decision_and_where_its_time_went() {
    let (_stable, _canary, text) = two().await;
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    gateway.set_weights("int8", json!({"canary": 50})).await;
    for user in ["ada", "bob", "eve"] {
        let answer = client.post(PATH, "{}").header("x-user-id", user).await;
        let row = told(&gateway, &answer).await;
        let decision = &row["decision"];
        assert_eq!(decision["variant"].as_str().unwrap(), answer.text());
        assert_eq!(
            (&decision["experiment"], &decision["revision"], &decision["reason"]),
            (&json!("int8"), &json!(2), &json!("split"))
        );
        let range = &decision["bucket_range"];
        let bucket = decision["bucket"].as_u64().unwrap();
        let bounds = range["first"].as_u64().unwrap()..range["end"].as_u64().unwrap();
        assert!(bounds.contains(&bucket), "{decision}");
        assert_eq!(range["variant"], decision["variant"]);
        let assign = gateway.get(&format!("/experiments/int8/assign?unit={user}")).await;
        assert_eq!(
            (&assign["bucket"], &assign["unit_hash"]),
            (&decision["bucket"], &decision["unit_hash"])
        );
        let share = if answer.text() == "stable" { 0.6429 } else { 0.3571 };
        assert_eq!(decision["share"], share);

        let ends = ends(&row);
        let names: Vec<&str> = ends.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&"decide") && names.contains(&"wait"), "{names:?}");
        assert_eq!(ends.last().unwrap().1, row["t_total"].as_i64().unwrap());
        let attempts = row["attempt_list"].as_array().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!((&attempts[0]["status"], &attempts[0]["error"]), (&json!(200), &Value::Null));
    }
}

#[tokio::test]
async fn an_attempt_that_failed_is_told_also_after_a_restart() {
    let model = backend().answers("here").start().await;
    let nobody = fault_proxy(model.addr).start().await;
    nobody.refuse();
    let text = format!(
        "[backends.b]\nendpoints = [\"http://{}\", \"{}\"]\nbalance = \"round_robin\"\n\
         [routes.r]\npath = \"/*\"\nbackend = \"b\"\n",
        nobody.addr,
        model.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let mut retried = None;
    for _ in 0..4 {
        let answer = client.get("/x").await;
        let row = told(&gateway, &answer).await;
        if row["attempts"] == 2 {
            retried = Some((answer, row));
            break;
        }
    }
    let (answer, row) = retried.expect("one of the first four goes to the address where nobody is");
    assert_eq!(row["decision"], Value::Null, "no experiment");
    let attempts = row["attempt_list"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    let (first, second) = (&attempts[0], &attempts[1]);
    assert_eq!(
        (&first["endpoint"], &first["status"]),
        (&json!(nobody.addr.to_string()), &Value::Null)
    );
    assert!(!first["error"].as_str().unwrap().is_empty());
    assert_eq!(
        (&second["endpoint"], &second["status"], &second["error"]),
        (&json!(model.addr.to_string()), &json!(200), &Value::Null)
    );
    assert!(first["end"].as_i64() <= second["begin"].as_i64());
    let names: Vec<&str> = ends(&row).iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&"attempt"), "{names:?}");
    let gateway = gateway.restart().await;
    assert_eq!(told(&gateway, &answer).await["attempt_list"], row["attempt_list"]);
}

#[tokio::test]
async fn failures_are_found_together_in_pages_without_gap_or_repeat() {
    let model = backend().answers("fine").start().await;
    let text = format!(
        "[backends.b]\nendpoints = [\"{}\"]\n[routes.r]\npath = \"/*\"\nbackend = \"b\"\n\
         timeouts = {{ first_byte = \"100ms\" }}\n",
        model.url()
    );
    let gateway = gateway(text).start().await;
    let client = gateway.client();
    let mut expected = Vec::new();
    for round in 0..9 {
        model.becomes(match round % 3 {
            0 => backend().answers("fine"),
            1 => backend().answers("no").status(500),
            _ => backend().answers("late").delay(weir_tests::seconds(1)),
        });
        let answer = client.post("/x", "{}").await;
        if round % 3 > 0 {
            expected.push(answer.header("x-request-id").unwrap().to_owned());
        }
    }
    expected.reverse();
    gateway.accounts().await;
    for limit in [1, 2, 100] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page =
                gateway.get(&format!("/requests?outcome=failed&limit={limit}{cursor}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            found.extend(items.iter().map(|item| item["request_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{limit} at a time");
    }
    let odd = gateway.api().get("/api/v1/requests?outcome=bad").await;
    assert_eq!(odd.status, 400);
    assert!(odd.text().contains("upstream_reset, client_aborted"), "{}", odd.text());
}
