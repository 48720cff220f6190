//! `weir vectors`: the program itself says whether its numbers are those of other packages.

use std::process::Output;

use weir_tests::weir;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/tests/stats-vectors.json");

/// Exit code, stdout and stderr.
fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What `weir vectors` says of a file with this text.
fn of(text: &str) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vectors.json");
    std::fs::write(&file, text).unwrap();
    told(weir(&["vectors", file.to_str().unwrap()]))
}

#[test]
fn every_vector_of_other_packages_passes() {
    let (code, out, err) = told(weir(&["vectors", VECTORS]));
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "48 passed, 0 failed\n", ""));
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_what_came() {
    let mut vectors: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(VECTORS).unwrap()).unwrap();
    let cases = vectors["cases"].as_array_mut().unwrap();
    let bucket = cases.iter_mut().find(|case| case["id"] == "bucket-01").unwrap();
    bucket["expected"]["bucket"] = 9543.into();
    let rate = cases.iter_mut().find(|case| case["id"] == "rate_floor-01").unwrap();
    rate["function"] = "rate_flor".into();
    let (code, out, err) = of(&vectors.to_string());
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "failed bucket-01 (bucket): bucket: expected 9543, got 9542");
    let unknown = "failed rate_floor-01 (rate_flor): there is no function \"rate_flor\"; functions";
    assert!(lines[1].starts_with(unknown), "{out}");
    assert_eq!(lines[2..], ["46 passed, 2 failed"]);
    assert!(err.contains("not every case passes"), "{err}");
}

#[test]
fn a_file_of_another_shape_gets_an_error_that_says_so() {
    for text in ["[server]\nlisten = 1", "{}", r#"{"cases": [{"id": "x"}]}"#, r#"{"cases": []}"#] {
        let (code, out, err) = of(text);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{text}");
        assert!(err.contains("vectors.json: "), "{err}");
        assert!(err.contains("not a file of test vectors: ") || err.contains("no cases"), "{err}");
        assert!(err.contains("it should read { \"cases\""), "{err}");
    }
    let (code, _, err) = told(weir(&["vectors", "/nowhere/vectors.json"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot read /nowhere/vectors.json: "), "{err}");
    assert_eq!(weir(&["vectors"]).status.code(), Some(2));
}
