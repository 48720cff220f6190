//! Weights as they are typed: `stable=90 canary=10`.
//!
//! What cannot be meant is told here, before anything is sent; what only the gateway can know (an
//! unknown variant, for one) is left to it.

use super::fault::Fault;

/// How weights are written.
const MEND: &str = "write NAME=NUMBER, as in stable=90 canary=10; weights are relative, 0 drains";

/// Reads `written`, in its order; empty if there is nothing to read.
pub(crate) fn parse(written: &[String]) -> Result<Vec<(String, f64)>, Fault> {
    let mut weights: Vec<(String, f64)> = Vec::with_capacity(written.len());
    for each in written {
        let (name, weight) = one(each).map_err(|what| Fault::usage(what, MEND))?;
        if weights.iter().any(|(known, _)| *known == name) {
            return Err(Fault::usage(format!("variant \"{name}\" has two weights"), MEND));
        }
        weights.push((name, weight));
    }
    Ok(weights)
}

fn one(written: &str) -> Result<(String, f64), String> {
    let Some((name, number)) = written.split_once('=') else {
        return Err(format!("\"{written}\" is not a weight: there is no ="));
    };
    if name.is_empty() {
        return Err(format!("\"{written}\" does not name a variant"));
    }
    let weight: f64 = number.parse().map_err(|_| match number {
        "" => format!("the weight of \"{name}\" is missing"),
        _ => format!("the weight of \"{name}\" is not a number ({number})"),
    })?;
    if weight.is_nan() {
        return Err(format!("the weight of \"{name}\" is not a number (NaN)"));
    }
    if weight.is_infinite() {
        return Err(format!("the weight of \"{name}\" is infinite"));
    }
    if weight < 0.0 {
        return Err(format!("the weight of \"{name}\" is negative ({weight})"));
    }
    // -0 is 0, and would be written as "-0" everywhere.
    Ok((name.to_owned(), weight.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(written: &[&str]) -> String {
        let written: Vec<String> = written.iter().map(|each| (*each).to_owned()).collect();
        match parse(&written) {
            Ok(weights) => format!("{weights:?}"),
            Err(fault) => fault.what,
        }
    }

    #[test]
    fn weights_are_read_as_typed() {
        assert_eq!(said(&["stable=90", "canary=0.5"]), r#"[("stable", 90.0), ("canary", 0.5)]"#);
        assert_eq!(said(&["a=1e3", "b=-0"]), r#"[("a", 1000.0), ("b", 0.0)]"#);
        assert_eq!(said(&[]), "[]");
    }

    #[test]
    fn what_is_no_weight_is_told() {
        assert_eq!(said(&["stable"]), "\"stable\" is not a weight: there is no =");
        assert_eq!(said(&["=90"]), "\"=90\" does not name a variant");
        assert_eq!(said(&["stable="]), "the weight of \"stable\" is missing");
        assert_eq!(said(&["stable=90%"]), "the weight of \"stable\" is not a number (90%)");
        assert_eq!(said(&["stable=ninety"]), "the weight of \"stable\" is not a number (ninety)");
        assert_eq!(said(&["stable=NaN"]), "the weight of \"stable\" is not a number (NaN)");
        assert_eq!(said(&["stable=inf"]), "the weight of \"stable\" is infinite");
        assert_eq!(said(&["stable=1e999"]), "the weight of \"stable\" is infinite");
        assert_eq!(said(&["canary=-5"]), "the weight of \"canary\" is negative (-5)");
        assert_eq!(said(&["a=1", "a=2"]), "variant \"a\" has two weights");
    }
}
