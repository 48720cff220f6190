//! The best rank wins, the first written breaks ties, and the index changes neither.

#![expect(clippy::expect_used, reason = "what a test cannot set up fails it")]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use routing::{
    Found, HeaderMatch, HeaderValueMatch, HostPattern, HostPatternFault, Model, PathFault,
    PathPattern, PathPatternFault, RepeatedHeader, RequestHead, RouteTable, Rule,
};

/// A rule from one line: `path`, then any of `host=`, `method=`, `model=`, `NAME:VALUE`, `NAME:`.
fn rule(line: &str) -> Rule {
    let (path, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut hosts = Vec::new();
    let mut methods = Vec::new();
    let mut headers = Vec::new();
    let mut model = None;
    for word in rest.split_whitespace() {
        if let Some(host) = word.strip_prefix("host=") {
            hosts.push(HostPattern::parse(host).expect("a host"));
        } else if let Some(method) = word.strip_prefix("method=") {
            methods.push(method.parse().expect("a method"));
        } else if let Some(name) = word.strip_prefix("model=") {
            model = Some(name.into());
        } else {
            headers.push(header(word));
        }
    }
    Rule {
        hosts: hosts.into(),
        path: PathPattern::parse(path).expect("a path"),
        methods: methods.into(),
        headers: headers.into(),
        model,
    }
}

fn header(written: &str) -> HeaderMatch {
    let (name, value) = written.split_once(':').expect("NAME:VALUE");
    let value = match value {
        "" => HeaderValueMatch::Present,
        value => HeaderValueMatch::Exact(value.into()),
    };
    HeaderMatch { name: name.parse().expect("a header"), value }
}

/// `METHOD host path NAME:VALUE…`
struct Asked {
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
}

impl Asked {
    fn new(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut next = || words.next().expect("method, host, path").to_owned();
        let (method, host, path) = (next().parse().expect("a method"), next(), next());
        let mut headers = HeaderMap::new();
        for word in words {
            let (name, value) = word.split_once(':').expect("NAME:VALUE");
            let name: HeaderName = name.parse().expect("a header");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        Self { method, host, path, headers }
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            headers: &self.headers,
        }
    }
}

fn table(lines: &[&'static str]) -> RouteTable<&'static str> {
    RouteTable::new(lines.iter().map(|line| (rule(line), *line)))
}

/// Routes lead to the line of their rule, so that a wrong one can be read off the failure.
fn check(table: &RouteTable<&'static str>, asked: &str, model: Model<'_>, found: &Found<'_, &str>) {
    let asked_for = Asked::new(asked);
    assert_eq!(table.find(&asked_for.head(), model).as_ref(), Ok(found), "{asked} {model:?}");
}

#[test]
fn the_closest_rule_wins_whatever_the_order() {
    let lines = [
        "/*",
        "/v2/*",
        "/v2/models/*",
        "/v2/models/x",
        "/v2/models/x x-team:red",
        "/v2/models/x x-team:red x-tier:",
        "/v2/models/x method=POST",
        "/v2/models/x model=m",
        "/v2/* host=*.example.com",
        "/* host=*.api.example.com",
        "/* host=a.api.example.com",
    ];
    let mut reversed = lines;
    reversed.reverse();
    for lines in [lines, reversed] {
        let table = table(&lines);
        let check = |asked, model, wins: &'static str| {
            check(&table, asked, model, &Found::Route(&wins));
        };
        check("GET h /", Model::Absent, "/*");
        check("GET h /v2", Model::Absent, "/*");
        check("GET h /v2/x", Model::Absent, "/v2/*");
        check("GET h /v2/models", Model::Absent, "/v2/*");
        check("GET h /v2/models/y", Model::Absent, "/v2/models/*");
        check("GET h /v2/models/x/y", Model::Absent, "/v2/models/*");
        check("GET h /v2/models/x", Model::Absent, "/v2/models/x");
        check("POST h /v2/models/x", Model::Absent, "/v2/models/x method=POST");
        check("POST h /v2/models/x", Model::Named("m"), "/v2/models/x model=m");
        check("POST h /v2/models/x", Model::Named("n"), "/v2/models/x method=POST");
        check("GET h /v2/models/x x-team:red", Model::Absent, "/v2/models/x x-team:red");
        check(
            "GET h /v2/models/x x-team:red x-tier:1",
            Model::Absent,
            "/v2/models/x x-team:red x-tier:",
        );
        check("GET b.example.com /v2/models/x", Model::Absent, "/v2/* host=*.example.com");
        check("GET b.api.example.com /v2/models/x", Model::Absent, "/* host=*.api.example.com");
        check("GET a.api.example.com /v2/models/x", Model::Absent, "/* host=a.api.example.com");
        check("GET example.com /v2/models/x", Model::Absent, "/v2/models/x");
        check("GET api.example.com /q", Model::Absent, "/*");
        check("OPTIONS h *", Model::Absent, "/*");
    }
}

#[test]
fn the_first_written_breaks_ties() {
    let table = table(&["/a x-one:1", "/a x-two:2", "/a method=GET", "/a method=GET method=PUT"]);
    check(&table, "PATCH h /a x-one:1 x-two:2", Model::Absent, &Found::Route(&"/a x-one:1"));
    check(&table, "GET h /a", Model::Absent, &Found::Route(&"/a method=GET"));
    assert_eq!(table.len(), 4);
    assert_eq!(table.iter().map(|(_, line)| *line).next(), Some("/a x-one:1"));
}

#[test]
fn a_miss_says_what_came_closest() {
    let named = ["/a host=h method=POST", "/a host=h method=PUT x-t:1", "/m host=*.w model=m"];
    let hosts_only = table(&named);
    check(&hosts_only, "GET other /a", Model::Absent, &Found::UnknownHost);
    check(&hosts_only, "GET w /a", Model::Absent, &Found::UnknownHost);
    check(&hosts_only, "POST h /b", Model::Absent, &Found::NoPath);
    check(&hosts_only, "GET h /a", Model::Absent, &Found::NoMethod);
    check(&hosts_only, "PUT h /a", Model::Absent, &Found::NoPath);
    check(&hosts_only, "GET x.w /m", Model::Absent, &Found::NoModel);
    check(&hosts_only, "GET x.w /m", Model::Named("n"), &Found::NoModel);
    check(&hosts_only, "GET x.w /m", Model::Unread, &Found::NeedsModel);
    assert_eq!(hosts_only.methods("h", "/a"), [&Method::POST, &Method::PUT]);

    let any_host = table(&["/a host=h", "/b"]);
    check(&any_host, "GET other /a", Model::Absent, &Found::NoPath);
    check(&table(&[]), "GET other /a", Model::Absent, &Found::NoPath);
}

#[test]
fn the_model_is_needed_only_if_it_could_change_the_answer() {
    let table = table(&[
        "/chat method=POST model=m",
        "/chat",
        "/exact",
        "/* model=m",
        "/other x-t:1 model=m",
        "/other",
    ]);
    check(&table, "POST h /chat", Model::Unread, &Found::NeedsModel);
    check(&table, "GET h /chat", Model::Unread, &Found::Route(&"/chat"));
    check(&table, "GET h /exact", Model::Unread, &Found::Route(&"/exact"));
    check(&table, "GET h /nowhere", Model::Unread, &Found::NeedsModel);
    check(&table, "GET h /other", Model::Unread, &Found::Route(&"/other"));
    check(&table, "GET h /other x-t:1", Model::Unread, &Found::NeedsModel);
    check(&table, "GET h /other x-t:1 x-t:1", Model::Unread, &Found::NeedsModel);
}

#[test]
fn a_header_that_decides_may_be_given_only_once() {
    #[track_caller]
    fn check(wanted: &str, asked: &str, verdict: Option<bool>) {
        let wanted = header(wanted);
        let asked = Asked::new(&format!("GET h / {asked}"));
        let repeated = RepeatedHeader { name: wanted.name.clone() };
        assert_eq!(wanted.matches(&asked.headers), verdict.ok_or(repeated));
    }
    check("x-t:1", "", Some(false));
    check("x-t:1", "x-t:1", Some(true));
    check("x-t:1", "x-t:2", Some(false));
    check("x-t:1", "x-t:1 x-t:1", None);
    check("x-t:1", "x-t:1,2", None);
    check("x-t:1,2", "x-t:1,2", Some(true));
    check("x-t:1,2", "x-t:2,1", Some(false));
    check("x-t:", "x-t:1,2", Some(true));
    check("x-t:", "x-t:1 x-t:2", None);

    let table = table(&["/a x-t:1", "/a", "/b"]);
    let twice = Asked::new("GET h /a x-t:1 x-t:2");
    let fault = table.find(&twice.head(), Model::Unread).expect_err("nobody decides");
    assert_eq!(
        fault.to_string(),
        "the header `x-t` decides where this request goes and may be given only once"
    );
    // No rule of this path looks at the header, so it decides nothing.
    let elsewhere = Asked::new("GET h /b x-t:1 x-t:2");
    assert_eq!(table.find(&elsewhere.head(), Model::Unread), Ok(Found::Route(&"/b")));
}

#[test]
fn a_written_pattern_is_one_that_requests_can_fit() {
    let path = |written| PathPattern::parse(written).map(|pattern| pattern.to_string());
    let respelled =
        |canonical: &str| Err(PathPatternFault::NotCanonical { canonical: canonical.to_owned() });
    assert_eq!(path("/v1/x"), Ok("/v1/x".to_owned()));
    assert_eq!(path("/v1/*"), Ok("/v1/*".to_owned()));
    assert_eq!(path("*"), Ok("/*".to_owned()));
    assert_eq!(path("/v1/%7ex"), respelled("/v1/~x"));
    assert_eq!(path("/v1//*"), respelled("/v1/*"));
    assert_eq!(path("/v1*"), Err(PathPatternFault::StrayStar));
    assert_eq!(path("/v1/*/x"), Err(PathPatternFault::StrayStar));
    assert_eq!(path("/a;b"), Err(PathPatternFault::Path(PathFault::Semicolon)));
    assert_eq!(path("v1/*"), Err(PathPatternFault::Path(PathFault::NotAbsolute)));

    let host = |written| HostPattern::parse(written).map(|pattern| pattern.to_string());
    assert_eq!(host("API.Example.com."), Ok("api.example.com".to_owned()));
    assert_eq!(host("*.Example.com"), Ok("*.example.com".to_owned()));
    assert_eq!(host("*"), Err(HostPatternFault::Everything));
    assert_eq!(host("a.*.com"), Err(HostPatternFault::StrayStar));
    assert_eq!(host("*a.com"), Err(HostPatternFault::StrayStar));
    assert_eq!(host("a.com:80"), Err(HostPatternFault::Port));
    assert!(matches!(host("a b"), Err(HostPatternFault::Host(_))));
}

#[test]
fn ten_thousand_routes_are_told_apart() {
    let rules = (0..10_000).map(|n| {
        let line = match n % 4 {
            0 => format!("/v1/{n}"),
            1 => format!("/v1/{n}/*"),
            2 => format!("/v1/chat host=h{n}.example.com"),
            _ => format!("/v1/chat model=m{n}"),
        };
        (rule(&line), n)
    });
    let table = RouteTable::new(rules);
    for n in 0..10_000 {
        let (asked, model) = match n % 4 {
            0 => (format!("GET h /v1/{n}"), None),
            1 => (format!("GET h /v1/{n}/x/y"), None),
            2 => (format!("GET h{n}.example.com /v1/chat"), None),
            _ => ("GET h /v1/chat".to_owned(), Some(format!("m{n}"))),
        };
        let model = model.as_deref().map_or(Model::Absent, Model::Named);
        assert_eq!(table.find(&Asked::new(&asked).head(), model), Ok(Found::Route(&n)), "{asked}");
    }
}

const HOSTS: [&str; 5] = ["a.b.c", "*.b.c", "*.c", "b.c", "c"];
const PATHS: [&str; 8] = ["/*", "/", "/a", "/a/", "/a/*", "/a/b", "/a/b/*", "/a/b/c"];
const HEADERS: [&str; 4] = ["x-a:1", "x-a:", "x-b:1", "x-b:2"];

prop_compose! {
    fn any_rule()(
        path in select(&PATHS[..]),
        hosts in subsequence(&HOSTS[..], 0..=2),
        methods in subsequence(vec!["GET", "POST"], 0..=2),
        headers in subsequence(&HEADERS[..], 0..=2),
        model in select(vec!["", "model=m", "model=n"]),
    ) -> Rule {
        let mut line = format!("{path} {model} {}", headers.join(" "));
        line.extend(hosts.iter().map(|host| format!(" host={host}")));
        line.extend(methods.iter().map(|method| format!(" method={method}")));
        rule(&line)
    }
}

prop_compose! {
    fn any_request()(
        host in select(vec!["a.b.c", "z.b.c", "b.c", "c", "d"]),
        path in select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/q", "*"]),
        method in select(vec!["GET", "POST", "PUT"]),
        headers in subsequence(vec!["x-a:1", "x-a:2", "x-b:1", "x-b:2"], 0..=2),
    ) -> String {
        format!("{method} {host} {path} {}", headers.join(" "))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Asking every rule for its rank gives the same route as the index.
    #[test]
    fn the_index_finds_what_a_search_through_all_rules_finds(
        rules in prop::collection::vec(any_rule(), 0..12),
        asked in any_request(),
        model in select(vec![None, Some("m"), Some("x")]),
    ) {
        let request = Asked::new(&asked);
        let mut best = None;
        for (at, rule) in rules.iter().enumerate() {
            // Rules that cannot be judged matter only if no closer one fits; that is tested above.
            let Ok(rank) = rule.rank(&request.head(), model) else { return Ok(()) };
            best = best.max(rank.map(|rank| (rank, std::cmp::Reverse(at))));
        }
        let table = RouteTable::new(rules.into_iter().enumerate().map(|(at, rule)| (rule, at)));
        let found = table.find(&request.head(), model.map_or(Model::Absent, Model::Named));
        let found = match found {
            Ok(Found::Route(at)) => Some(*at),
            _ => None,
        };
        prop_assert_eq!(found, best.map(|(_, std::cmp::Reverse(at))| at), "{}", asked);
    }

    /// What is answered before the model is read stays right once it is.
    #[test]
    fn an_answer_without_the_model_holds_for_every_model(
        rules in prop::collection::vec(any_rule(), 0..12),
        asked in any_request(),
    ) {
        let request = Asked::new(&asked);
        let table = RouteTable::new(rules.into_iter().enumerate().map(|(at, rule)| (rule, at)));
        let unread = table.find(&request.head(), Model::Unread);
        if unread != Ok(Found::NeedsModel) {
            for model in [Model::Absent, Model::Named("m"), Model::Named("n"), Model::Named("x")] {
                prop_assert_eq!(&table.find(&request.head(), model), &unread, "{}", asked);
            }
        }
    }
}
