//! Which rows a page has, in which order.

use super::frame::{Experiment, Route, Shadow};
use super::seen::{Seen, Whose};
use super::view::{Page, Sort};

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Route(String),
    Experiment(String),
    Variant(String, String),
    Shadow(String),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Route(&'a Route),
    Experiment(&'a Experiment),
    /// An experiment, and the place of its variant.
    Variant(&'a Experiment, usize),
    Shadow(&'a Shadow),
}

impl Row<'_> {
    pub(super) fn id(&self) -> Id {
        match self {
            Self::Route(of) => Id::Route(of.name.clone()),
            Self::Experiment(of) => Id::Experiment(of.name.clone()),
            Self::Variant(of, at) => Id::Variant(of.name.clone(), of.variants[*at].name.clone()),
            Self::Shadow(of) => Id::Shadow(of.name.clone()),
        }
    }
}

/// The rows of `page`. Whatever is wanted in `filter` keeps what it belongs to, and what belongs to it.
pub(super) fn rows<'a>(seen: &'a Seen, page: &Page, sort: Sort, filter: &str) -> Vec<Row<'a>> {
    match page {
        Page::Everything => everything(seen, None, sort, filter),
        Page::Route(name) => everything(seen, Some(name), sort, filter),
        Page::Experiment(name) => {
            let experiment = seen.experiment(name);
            experiment.map_or_else(Vec::new, |of| {
                (0..of.variants.len()).map(|at| Row::Variant(of, at)).collect()
            })
        }
        Page::Variant(..) => Vec::new(),
    }
}

fn everything<'a>(seen: &'a Seen, only: Option<&str>, sort: Sort, filter: &str) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let wanted = |name: &str| name.to_lowercase().contains(&filter);
    let mut routes: Vec<&Route> = seen.frame.routes.iter().collect();
    routes.retain(|of| only.is_none_or(|only| of.name == only));
    order(&mut routes, sort, |of| {
        let whose = Whose::Route(of.name.clone());
        figures(seen, &whose, of.numbers.p95)
    });
    let mut rows = Vec::new();
    for route in routes {
        let whole = wanted(&route.name);
        let mut below = Vec::new();
        let mut experiments: Vec<&Experiment> =
            seen.frame.experiments.iter().filter(|of| of.route == route.name).collect();
        order(&mut experiments, sort, |of| worst(seen, of));
        for experiment in experiments {
            let whole = whole || wanted(&experiment.name);
            let all = experiment.variants.iter().enumerate();
            let variants: Vec<Row<'_>> = all
                .filter(|(_, of)| whole || wanted(&of.name))
                .map(|(at, _)| Row::Variant(experiment, at))
                .collect();
            if whole || !variants.is_empty() {
                below.push(Row::Experiment(experiment));
                below.extend(variants);
            }
        }
        if whole || !below.is_empty() {
            rows.push(Row::Route(route));
            rows.extend(below);
        }
    }
    if only.is_none() {
        rows.extend(seen.frame.shadows.iter().filter(|of| wanted(&of.name)).map(Row::Shadow));
    }
    rows
}

/// Rate, failed and p95, as they are sorted by.
type Figures = [f64; 3];

fn figures(seen: &Seen, whose: &Whose, p95: Option<f64>) -> Figures {
    let window = seen.window(whose);
    let rate = window.map_or(0.0, |window| window.rate());
    let failed = window.and_then(|window| window.failed());
    [rate, failed.unwrap_or(-1.0), p95.unwrap_or(-1.0)]
}

/// An experiment does what its variants do together, and is as bad as the worst of them.
fn worst(seen: &Seen, experiment: &Experiment) -> Figures {
    let each = experiment.variants.iter().map(|of| {
        let whose = Whose::Variant(experiment.name.clone(), of.name.clone());
        figures(seen, &whose, of.numbers.p95)
    });
    each.fold([0.0, -1.0, -1.0], |all, of| [all[0] + of[0], all[1].max(of[1]), all[2].max(of[2])])
}

/// Largest first. Rows that are about as large stay in the order of the configuration: whoever reads
/// is not to see them change places all the time.
fn order<T: Copy>(rows: &mut [T], sort: Sort, figures: impl Fn(T) -> Figures) {
    let at = match sort {
        Sort::Written => return,
        Sort::Rate => 0,
        Sort::Failed => 1,
        Sort::P95 => 2,
    };
    rows.sort_by_cached_key(|row| {
        let value = figures(*row)[at];
        std::cmp::Reverse(coarse(value))
    });
}

/// A number in steps of about 10 %, so that it can be compared with what is nearly the same.
fn coarse(value: f64) -> i64 {
    if value <= 0.0 {
        // Nothing is less than none.
        return if value < 0.0 { i64::MIN } else { i64::MIN + 1 };
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let steps = (value.ln() * 10.0).round() as i64;
    steps
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn said(rows: &[Row<'_>]) -> String {
        let one = |row: &Row<'_>| match row {
            Row::Route(of) => of.name.clone(),
            Row::Experiment(of) => format!("{}@{}", of.name, of.revision),
            Row::Variant(of, at) => format!(".{}", of.variants[*at].name),
            Row::Shadow(of) => format!("~{}", of.name),
        };
        rows.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn of(page: Page, sort: Sort, filter: &str) -> String {
        said(&rows(&sample::seen(), &page, sort, filter))
    }

    #[test]
    fn everything_stands_under_what_it_belongs_to_control_first() {
        assert_eq!(
            of(Page::Everything, Sort::Written, ""),
            "chat int8@7 .stable .canary .next embeddings bge@3 .old .new images ~next"
        );
        assert_eq!(of(Page::Route("images".into()), Sort::Written, ""), "images");
        assert_eq!(of(Page::Experiment("int8".into()), Sort::Rate, "x"), ".stable .canary .next");
        assert_eq!(of(Page::Experiment("gone".into()), Sort::Rate, ""), "");
    }

    #[test]
    fn sorting_moves_routes_and_experiments_but_no_variant() {
        let sorted = of(Page::Everything, Sort::Rate, "");
        assert_eq!(
            sorted,
            "embeddings bge@3 .old .new chat int8@7 .stable .canary .next images ~next"
        );
        assert!(of(Page::Everything, Sort::Failed, "").starts_with("chat "));
        assert!(of(Page::Everything, Sort::P95, "").starts_with("chat "));
    }

    #[test]
    fn a_filter_keeps_what_it_finds_with_its_place() {
        assert_eq!(of(Page::Everything, Sort::Written, "CAN"), "chat int8@7 .canary");
        assert_eq!(
            of(Page::Everything, Sort::Written, "int8"),
            "chat int8@7 .stable .canary .next"
        );
        assert_eq!(of(Page::Everything, Sort::Written, "image"), "images");
        assert_eq!(of(Page::Everything, Sort::Written, "nothing like that"), "");
    }

    #[test]
    fn what_is_about_the_same_does_not_change_places() {
        assert_eq!(coarse(20.1), coarse(20.4));
        assert!(coarse(20.0) < coarse(24.0));
        assert!(coarse(-1.0) < coarse(0.0) && coarse(0.0) < coarse(1e-6));
    }
}
