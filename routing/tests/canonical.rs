//! Paths and hosts have one spelling, and what could be read two ways is refused.

use proptest::prelude::*;
use routing::{
    Authority, AuthorityFault, PathFault, canonical_authority, canonical_path, split_target,
};
use std::borrow::Cow;

#[test]
fn a_path_is_spelled_one_way() {
    fn check(raw: &str, canonical: &str) {
        assert_eq!(canonical_path(raw).as_deref(), Ok(canonical), "{raw:?}");
    }
    check("/", "/");
    check("*", "*");
    check("/v1/chat/completions", "/v1/chat/completions");
    check("/v1/%63hat/%7Euser", "/v1/chat/~user");
    check("/a%c3%a9", "/a%C3%A9");
    check("/%25%32f", "/%252f");
    check("/a%20b", "/a%20b");
    check("//a///b//", "/a/b/");
    check("/a/./b/../c", "/a/c");
    check("/a/%2e/b/%2E%2e/c", "/a/c");
    check("/a/.%2e/b", "/b");
    check("/a/..", "/");
    check("/a/b/..", "/a/");
    check("/a/.", "/a/");
    check("/.", "/");
    check("/a//../b", "/b");
    check("/.well-known/...", "/.well-known/...");
    check("/a/..b/c..", "/a/..b/c..");
    check("/!$&'()*+,=:@-._~", "/!$&'()*+,=:@-._~");
    check("/a%3Bb%3f%23%5b", "/a%3Bb%3F%23%5B");
}

#[test]
fn a_path_that_could_be_read_two_ways_is_refused() {
    fn check(raw: &str, fault: PathFault) {
        assert_eq!(canonical_path(raw), Err(fault), "{raw:?}");
    }
    check("", PathFault::Empty);
    check("v1", PathFault::NotAbsolute);
    check("**", PathFault::NotAbsolute);
    check("http://example.com/", PathFault::NotAbsolute);
    check("/a#b", PathFault::Fragment);
    check("/a\\b", PathFault::Backslash);
    check("/a%5cb", PathFault::Backslash);
    check("/a%5Cb", PathFault::Backslash);
    check("/a%2fb", PathFault::EncodedSlash);
    check("/a%2Fb", PathFault::EncodedSlash);
    check("/a%00", PathFault::EncodedControl { byte: 0 });
    check("/a%0d%0a", PathFault::EncodedControl { byte: 0x0d });
    check("/a%7F", PathFault::EncodedControl { byte: 0x7f });
    check("/a;b=c", PathFault::Semicolon);
    check("/%", PathFault::BadEscape);
    check("/%4", PathFault::BadEscape);
    check("/%4g", PathFault::BadEscape);
    check("/%+1", PathFault::BadEscape);
    check("/%u0041", PathFault::BadEscape);
    check("/a b", PathFault::ForeignByte { byte: b' ' });
    check("/a?b", PathFault::ForeignByte { byte: b'?' });
    check("/a[0]", PathFault::ForeignByte { byte: b'[' });
    check("/a\"", PathFault::ForeignByte { byte: b'"' });
    check("/\u{7f}", PathFault::ForeignByte { byte: 0x7f });
    check("/é", PathFault::ForeignByte { byte: 0xc3 });
    check("/..", PathFault::AboveRoot);
    check("/a/../..", PathFault::AboveRoot);
    check("/%2e%2e/etc", PathFault::AboveRoot);
    check("//../a", PathFault::AboveRoot);
    check("/a/..//../b", PathFault::AboveRoot);
}

#[test]
fn a_canonical_path_is_borrowed() {
    for path in ["*", "/", "/v1/chat/completions", "/a%20b/%C3%A9", "/.well-known/x", "/a/"] {
        assert!(matches!(canonical_path(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
    }
}

#[test]
fn the_query_starts_at_the_first_question_mark() {
    assert_eq!(split_target("/a"), ("/a", None));
    assert_eq!(split_target("/a?"), ("/a", Some("")));
    assert_eq!(split_target("/a?b=//../?%2F"), ("/a", Some("b=//../?%2F")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes out has its own spelling and nothing left to remove.
    #[test]
    fn canonical_paths_stay_as_they_are(
        raw in "(/|\\.|%2[eE]|%2f|%25|%4[1aA]|%7e|%c3|%|2e|;|a|B|~|\\*|é){0,24}",
    ) {
        if let Ok(path) = canonical_path(&format!("/{raw}")) {
            prop_assert!(path.starts_with('/'));
            let closed = format!("{path}/");
            for noise in ["//", "/./", "/../"] {
                prop_assert!(!path.contains(noise), "{path}");
            }
            prop_assert!(!closed.contains("/./") && !closed.contains("/../"), "{path}");
            let again = canonical_path(&path);
            prop_assert!(matches!(again, Ok(Cow::Borrowed(same)) if same == path), "{again:?}");
        }
    }

    /// No text whatever is a panic.
    #[test]
    fn any_text_has_a_verdict(raw in "\\PC{0,40}") {
        let _ = canonical_path(&raw);
        if let Ok(Authority { host, .. }) = canonical_authority(&raw) {
            let again = canonical_authority(&host);
            prop_assert_eq!(again, Ok(Authority { host: Cow::Borrowed(&*host), port: None }));
        }
    }
}

#[test]
fn a_host_is_spelled_one_way() {
    fn check(raw: &str, host: &str, port: Option<u16>) {
        let wanted = Authority { host: Cow::Borrowed(host), port };
        assert_eq!(canonical_authority(raw), Ok(wanted), "{raw:?}");
    }
    check("example.com", "example.com", None);
    check("Example.COM:8443", "example.com", Some(8443));
    check("example.com.", "example.com", None);
    check("example.com.:443", "example.com", Some(443));
    check("my_service-1", "my_service-1", None);
    check("127.0.0.1:00080", "127.0.0.1", Some(80));
    check("[::1]", "[::1]", None);
    check("[2001:DB8:0:0::1]:65535", "[2001:db8::1]", Some(65535));
}

#[test]
fn a_host_that_could_be_read_two_ways_is_refused() {
    fn check(raw: &str, fault: AuthorityFault) {
        assert_eq!(canonical_authority(raw), Err(fault), "{raw:?}");
    }
    check("", AuthorityFault::EmptyHost);
    check(".", AuthorityFault::EmptyHost);
    check(":80", AuthorityFault::EmptyHost);
    check("user@example.com", AuthorityFault::UserInfo);
    check("[::1]@example.com", AuthorityFault::UserInfo);
    check("example.com:80:81", AuthorityFault::SecondPort);
    check("::1", AuthorityFault::SecondPort);
    check("a..b", AuthorityFault::EmptyLabel);
    check(".a", AuthorityFault::EmptyLabel);
    check("a..", AuthorityFault::EmptyLabel);
    check("a/b", AuthorityFault::HostByte { byte: b'/' });
    check("a b", AuthorityFault::HostByte { byte: b' ' });
    check("a%2eb", AuthorityFault::HostByte { byte: b'%' });
    check("a,b", AuthorityFault::HostByte { byte: b',' });
    check("bücher.example", AuthorityFault::HostByte { byte: 0xc3 });
    check("[::1]x", AuthorityFault::HostByte { byte: b'x' });
    check("[::1", AuthorityFault::BadAddress);
    check("[]", AuthorityFault::BadAddress);
    check("[fe80::1%25eth0]", AuthorityFault::BadAddress);
    check("[127.0.0.1]", AuthorityFault::BadAddress);
    check("[::1]:80:81", AuthorityFault::SecondPort);
    check("example.com:", AuthorityFault::BadPort);
    check("example.com:0", AuthorityFault::BadPort);
    check("example.com:65536", AuthorityFault::BadPort);
    check("example.com:+80", AuthorityFault::BadPort);
    check("example.com:8o", AuthorityFault::BadPort);
}
