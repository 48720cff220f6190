//! Results as comma-separated values: a row for each number, for spreadsheets and notebooks.

use serde_json::Value;

use crate::cli::reading;

const HEADING: &str = "experiment,variant,against,measure,value,low,high,verdict,needed";

/// Seconds, fractions and counts, as the API has them; what is not known is empty.
pub(super) fn rows(results: &Value) -> String {
    let experiment = reading::text(results, "experiment").unwrap_or_default();
    let control = reading::text(results, "control").unwrap_or_default();
    let mut out = format!("{HEADING}\n");
    let mut row = |variant: &str, against: &str, measure: &str, rest: [String; 5]| {
        let cells = [experiment, variant, against, measure].map(quoted);
        out.push_str(&format!("{},{}\n", cells.join(","), rest.join(",")));
    };
    let only = |value: Option<&Value>| [number(value), blank(), blank(), blank(), blank()];
    for (variant, of) in reading::variants(results) {
        for count in ["exposures", "units", "requests", "failed"] {
            row(variant, "", count, only(of.get(count)));
        }
        for (outcome, count) in reading::members(of, "outcomes") {
            row(variant, "", &format!("outcome:{outcome}"), only(Some(count)));
        }
        if let Some(rate) = of.get("error_rate") {
            row(variant, "", "error_rate", bounded(rate, "value"));
        }
        for timing in ["latency", "time_to_first_byte", "token_time"] {
            for quantile in ["p50", "p95", "p99"] {
                if let Some(found) = of.get(timing).and_then(|all| all.get(quantile)) {
                    row(variant, "", &format!("{timing}_{quantile}"), bounded(found, "value"));
                }
            }
        }
        for (kind, count) in reading::members(of, "tokens") {
            row(variant, "", &format!("tokens_{kind}"), only(Some(count)));
        }
        for (metric, found) in reading::members(of, "metrics") {
            row(variant, "", &format!("feedback:{metric}"), bounded(found, "mean"));
        }
        for (metric, found) in reading::members(of, "versus_control") {
            let verdict = quoted(reading::text(found, "verdict").unwrap_or_default());
            let with = |[value, low, high, ..]: [String; 5]| {
                [value, low, high, verdict.clone(), number(found.get("needed"))]
            };
            let difference = with(bounded(found, "difference"));
            row(variant, control, &format!("{metric}:difference"), difference);
            if let Some(ratio) = found.get("ratio") {
                let ratio = with(bounded(ratio, "value"));
                row(variant, control, &format!("{metric}:ratio"), ratio);
            }
        }
    }
    out
}

fn blank() -> String {
    String::new()
}

fn number(value: Option<&Value>) -> String {
    value.filter(|value| value.is_number()).map_or_else(blank, ToString::to_string)
}

fn bounded(found: &Value, value: &str) -> [String; 5] {
    [
        number(found.get(value)),
        number(found.get("low")),
        number(found.get("high")),
        blank(),
        blank(),
    ]
}

/// A name, so that a comma in it is not the next cell and a spreadsheet takes it for no formula.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        assert_eq!(quoted("canary"), "canary");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
