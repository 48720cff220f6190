//! Test vectors: inputs and results of other packages, held against this crate's own functions.
//!
//! A file of vectors is JSON:
//!
//! ```text
//! { "cases": [ { "id", "function", "inputs": {..}, "expected": {..}, "tolerance": {"rel", "abs"} }, .. ] }
//! ```
//!
//! A number passes when `|got - expected| <= abs + rel*|expected|`; whole numbers (counts, ranks,
//! buckets) and text must be equal. `null` stands for no finite bound. What a case does not expect
//! is not compared.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

mod evaluate;

/// One case of a file.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Unique in its file.
    pub id: String,
    /// Which computation.
    pub function: String,
    /// By name.
    pub inputs: Value,
    /// By name.
    pub expected: Map<String, Value>,
    /// How close a number must be.
    pub tolerance: Tolerance,
}

/// How close a number must be.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Tolerance {
    /// As a fraction of what is expected.
    pub rel: f64,
    /// In the number's own unit.
    pub abs: f64,
}

/// Why a file is not one of test vectors.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// Its text is no JSON, or not of the shape.
    #[error("not a file of test vectors")]
    Shape(#[from] serde_json::Error),
    /// There is nothing in it, which must not look like success.
    #[error("the file has no cases")]
    Empty,
}

/// Why a case does not pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CaseFault {
    /// Nothing here computes that.
    #[error("there is no function {0:?}; functions are {names}", names = evaluate::NAMES.join(", "))]
    Function(String),
    /// The inputs are not those of the function.
    #[error("cannot use the inputs: {0}")]
    Inputs(String),
    /// Something else came.
    #[error("{}", list(.0))]
    Differs(Vec<Difference>),
}

/// One result that is not the one expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name, with the place in a list.
    pub name: String,
    /// What was expected.
    pub expected: Value,
    /// What came; `None` if that is not computed.
    pub got: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, got } = self;
        match got {
            Some(got) => write!(f, "{name}: expected {expected}, got {got}"),
            None => write!(f, "{name}: expected {expected}, but that is not computed"),
        }
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}

/// The cases of a file.
///
/// # Errors
///
/// If it is not of the shape, or has no cases.
pub fn cases(text: &str) -> Result<Vec<Case>, FileFault> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let File { cases } = serde_json::from_str(text)?;
    if cases.is_empty() { Err(FileFault::Empty) } else { Ok(cases) }
}

impl Case {
    /// Computes the case and compares.
    ///
    /// # Errors
    ///
    /// Everything that differs, or why it cannot be computed.
    pub fn check(&self) -> Result<(), CaseFault> {
        let got = evaluate::evaluate(&self.function, &self.inputs)?;
        let mut differences = Vec::new();
        for (name, expected) in &self.expected {
            match got.get(name) {
                Some(got) => self.compare(name, expected, got, &mut differences),
                None => differences.push(Difference {
                    name: name.clone(),
                    expected: expected.clone(),
                    got: None,
                }),
            }
        }
        if differences.is_empty() { Ok(()) } else { Err(CaseFault::Differs(differences)) }
    }

    fn compare(&self, name: &str, expected: &Value, got: &Value, into: &mut Vec<Difference>) {
        if let (Some(expected), Some(got)) = (expected.as_array(), got.as_array())
            && expected.len() == got.len()
        {
            for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
                self.compare(&format!("{name}[{at}]"), expected, got, into);
            }
            return;
        }
        if !self.is_close(expected, got) {
            let (expected, got) = (expected.clone(), Some(got.clone()));
            into.push(Difference { name: name.to_owned(), expected, got });
        }
    }

    fn is_close(&self, expected: &Value, got: &Value) -> bool {
        match (expected, got) {
            // What is whole here is a count, a rank or an index.
            (Value::Number(expected), Value::Number(got)) if !got.is_f64() => {
                expected.as_f64() == got.as_f64()
            }
            (Value::Number(expected), Value::Number(got)) => {
                let (Some(expected), Some(got)) = (expected.as_f64(), got.as_f64()) else {
                    return false;
                };
                (got - expected).abs() <= self.tolerance.abs + self.tolerance.rel * expected.abs()
            }
            (expected, got) => expected == got,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../tests/stats-vectors.json");

    /// Law 9.
    #[test]
    fn every_vector_passes() {
        let cases = cases(VECTORS).unwrap();
        assert_eq!(cases.len(), 48);
        let failing: Vec<String> = cases
            .iter()
            .filter_map(|case| Some(format!("{}: {}", case.id, case.check().err()?)))
            .collect();
        assert!(failing.is_empty(), "{failing:#?}");
        for name in evaluate::NAMES {
            assert!(cases.iter().any(|case| case.function == name), "{name} has no case");
        }
    }

    /// A check that passes whatever comes would prove nothing.
    #[test]
    fn every_expected_number_matters() {
        for mut case in cases(VECTORS).unwrap() {
            for name in case.expected.keys().cloned().collect::<Vec<_>>() {
                let kept = case.expected[&name].clone();
                let changed = change(&mut case.expected[&name], case.tolerance);
                assert_eq!(case.check().is_err(), changed, "{}: {name}", case.id);
                case.expected[&name] = kept;
            }
        }
    }

    /// Moves the first number beyond its tolerance, or changes the text.
    fn change(value: &mut Value, tolerance: Tolerance) -> bool {
        match value {
            Value::Number(number) if number.is_f64() => {
                let number = number.as_f64().unwrap();
                let width = tolerance.abs + tolerance.rel * number.abs();
                *value = (number + 3.0 * width).into();
                true
            }
            Value::Number(number) => {
                *value = (number.as_u64().unwrap() + 1).into();
                true
            }
            Value::Array(elements) => elements.iter_mut().any(|each| change(each, tolerance)),
            Value::String(text) => {
                text.push('x');
                true
            }
            Value::Null => {
                *value = 1.0.into();
                true
            }
            Value::Bool(_) | Value::Object(_) => false,
        }
    }

    fn one(function: &str, inputs: &str, expected: &str) -> Result<(), CaseFault> {
        let text = format!(
            r#"{{"cases":[{{"id":"x","function":"{function}","inputs":{inputs},
                "expected":{expected},"tolerance":{{"rel":1e-9,"abs":0}}}}]}}"#
        );
        cases(&text).unwrap()[0].check()
    }

    #[test]
    fn what_is_wrong_is_said() {
        let inputs = r#"{"successes":0,"trials":100,"alpha":0.05,"t_opt":1000}"#;
        let fault = one("bernoulli_cs", inputs, r#"{"interval":[0.5,0.2],"more":1}"#).unwrap_err();
        let text = fault.to_string();
        assert!(
            text.starts_with("interval[0]: expected 0.5, got 0.0; interval[1]: expected 0.2,"),
            "{text}"
        );
        assert!(text.ends_with("more: expected 1, but that is not computed"), "{text}");

        let fault = one("bernoulli", inputs, "{}").unwrap_err().to_string();
        assert!(fault.starts_with(r#"there is no function "bernoulli"; functions are bucket, "#));
        let fault = one("bernoulli_cs", "{}", "{}").unwrap_err().to_string();
        assert_eq!(fault, "cannot use the inputs: missing field `successes`");
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        for text in ["", "[]", "{}", r#"{"cases":[{"id":"x"}]}"#, r#"{"cases":{}}"#] {
            assert!(matches!(cases(text), Err(FileFault::Shape(_))), "{text}");
        }
        assert!(matches!(cases(r#"{"cases":[]}"#), Err(FileFault::Empty)));
    }

    /// Whatever stands in a file, it ends in a result.
    #[test]
    fn absurd_inputs_do_not_panic() {
        let numbers = ["0", "1", "-1", "0.5", "1e308", "18446744073709551615", "null"];
        for mut case in cases(VECTORS).unwrap() {
            let Some(names) = case.inputs.as_object().map(|inputs| inputs.keys().cloned()) else {
                continue;
            };
            let names: Vec<String> = names.collect();
            for name in names {
                let kept = case.inputs[&name].clone();
                for number in numbers {
                    case.inputs[&name] = serde_json::from_str(number).unwrap();
                    let _ = case.check();
                    case.inputs[&name] = serde_json::from_str(&format!("[{number}]")).unwrap();
                    let _ = case.check();
                }
                case.inputs[&name] = kept;
            }
        }
    }
}
