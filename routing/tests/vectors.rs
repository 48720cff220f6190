//! Buckets and allocations agree with `vectors.json`, which another implementation wrote.

#![expect(clippy::expect_used, reason = "what a test cannot set up fails it")]

use routing::{Allocation, HashKey, Salt, VariantId};
use serde_json::Value;

fn cases(function: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("vectors.json")).expect("JSON");
    let cases = vectors["cases"].as_array().expect("cases").iter();
    let cases: Vec<Value> = cases.filter(|case| case["function"] == function).cloned().collect();
    assert!(!cases.is_empty(), "no case of {function}");
    cases
}

fn numbers(list: &Value) -> Vec<u16> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    list.as_array().expect("a list").iter().map(|value| number(value).expect("a u16")).collect()
}

#[test]
fn buckets_are_those_of_the_vectors() {
    for case in cases("bucket") {
        let text = |name: &str| case["inputs"][name].as_str().expect("text");
        let key = u128::from_str_radix(text("key_hex"), 16).expect("hexadecimal").to_be_bytes();
        let salt = Salt::new(&HashKey(key), text("salt"));
        let hash = format!("{:016x}", salt.hash(text("unit")));
        assert_eq!(hash, case["expected"]["hash_hex"], "{case}");
        assert_eq!(salt.bucket(text("unit")), case["expected"]["bucket"], "{case}");
    }
}

#[test]
fn allocations_are_those_of_the_vectors() {
    for case in cases("allocation") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let name = |VariantId(at): VariantId| inputs["variants"][usize::from(at)].clone();
        let mut allocation: Option<Allocation> = None;
        let mut moved_at_each_step = Vec::new();
        let mut runs_at_each_step = Vec::new();
        for shares in inputs["shares_bp"].as_array().expect("steps") {
            let shares = numbers(shares);
            let (now, moved) = match allocation {
                None => (Allocation::initial(&shares).expect("shares"), 0),
                Some(before) => {
                    let after = before.retarget(&shares).expect("shares");
                    (after.allocation, after.moved)
                }
            };
            let runs = now.runs().into_iter();
            let runs = runs.map(|run| serde_json::json!([run.first, run.end, name(run.variant)]));
            runs_at_each_step.push(Value::Array(runs.collect()));
            moved_at_each_step.push(moved);
            allocation = Some(now);
        }
        assert_eq!(Value::Array(runs_at_each_step), expected["runs"], "{case}");
        assert_eq!(moved_at_each_step, numbers(&expected["moved_buckets"]), "{case}");
    }
}
