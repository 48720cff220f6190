use super::*;
use crate::h2::put_field;

fn pseudo(name: Pseudo, value: &'static str) -> Field {
    Field::Pseudo(name, Bytes::from_static(value.as_bytes()))
}

fn regular(name: &'static str, value: &'static str) -> Field {
    Field::Regular(HeaderName::from_static(name), HeaderValue::from_static(value))
}

fn get(path: &'static str) -> Vec<Field> {
    vec![
        pseudo(Pseudo::Method, "GET"),
        pseudo(Pseudo::Scheme, "https"),
        pseudo(Pseudo::Authority, "localhost:8443"),
        pseudo(Pseudo::Path, path),
    ]
}

fn put(reader: &mut HeadReader, fields: Vec<Field>) {
    for field in fields {
        if reader.wants(40) {
            reader.take(field);
        }
    }
}

fn request(fields: Vec<Field>) -> Result<Parts, HeadFault> {
    let mut reader = HeadReader::new(1_000);
    put(&mut reader, fields);
    reader.request()
}

#[test]
fn a_head_is_put_together_and_the_next_one_starts_anew() {
    let mut reader = HeadReader::new(1_000);
    for path in ["/a?b", "/c"] {
        let mut fields = get(path);
        fields.extend([regular("a", "1"), regular("te", "trailers"), regular("a", "2")]);
        put(&mut reader, fields);
        let parts = reader.request().unwrap();
        assert_eq!((parts.method, parts.version), (Method::GET, Version::HTTP_2));
        assert_eq!(parts.uri.to_string(), format!("https://localhost:8443{path}"));
        let all: Vec<_> = parts.headers.get_all("a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(parts.headers.len(), 3);
    }
    put(&mut reader, vec![regular("grpc-status", "0")]);
    assert_eq!(reader.trailers().unwrap()["grpc-status"], "0");
}

#[test]
fn a_request_without_an_authority_has_a_path_alone() {
    let fields = vec![
        pseudo(Pseudo::Method, "OPTIONS"),
        pseudo(Pseudo::Scheme, "https"),
        pseudo(Pseudo::Path, "*"),
        regular("host", "a"),
    ];
    let parts = request(fields).unwrap();
    assert_eq!((parts.uri.path(), parts.uri.authority()), ("*", None));
}

/// T04: each would say something else to a backend of HTTP/1.1, or nothing that it knows.
#[test]
fn what_is_no_head_is_refused() {
    let with = |more: Field| {
        let mut fields = get("/");
        fields.push(more);
        fields
    };
    let without = |place: usize| {
        let mut fields = get("/");
        fields.remove(place);
        fields
    };
    for (what, fields) in [
        ("no method", without(0)),
        ("no scheme", without(1)),
        ("no path", without(3)),
        ("an empty path", get("")),
        ("a path with a space", get("/a b")),
        ("a second path", with(pseudo(Pseudo::Path, "/"))),
        ("a status", with(pseudo(Pseudo::Status, "200"))),
        ("an unknown pseudo-header", with(pseudo(Pseudo::Other, "x"))),
        ("a malformed field", with(Field::Malformed)),
        ("connection", with(regular("connection", "close"))),
        ("keep-alive", with(regular("keep-alive", "1"))),
        ("proxy-connection", with(regular("proxy-connection", "close"))),
        ("transfer-encoding", with(regular("transfer-encoding", "chunked"))),
        ("upgrade", with(regular("upgrade", "websocket"))),
        ("te", with(regular("te", "gzip"))),
        ("a pseudo-header behind a field", {
            let mut fields = without(3);
            fields.extend([regular("a", "1"), pseudo(Pseudo::Path, "/")]);
            fields
        }),
        ("a method that is none", {
            let mut fields = without(0);
            fields.insert(0, pseudo(Pseudo::Method, "G T"));
            fields
        }),
        ("an authority that is none", {
            let mut fields = without(2);
            fields.insert(2, pseudo(Pseudo::Authority, "a b"));
            fields
        }),
        ("a tunnel with a path", {
            let mut fields = without(0);
            fields.insert(0, pseudo(Pseudo::Method, "CONNECT"));
            fields
        }),
    ] {
        assert_eq!(request(fields).err(), Some(HeadFault::Malformed), "{what}");
    }
    let tunnel = vec![pseudo(Pseudo::Method, "CONNECT"), pseudo(Pseudo::Authority, "a:1")];
    assert_eq!(request(tunnel).unwrap().uri, "a:1");
}

#[test]
fn trailers_have_no_pseudo_headers() {
    let mut reader = HeadReader::new(1_000);
    put(&mut reader, vec![pseudo(Pseudo::Path, "/")]);
    assert_eq!(reader.trailers().err(), Some(HeadFault::Malformed));
    put(&mut reader, vec![regular("a", "b")]);
    assert_eq!(reader.trailers().unwrap().len(), 1, "the next ones are");
}

/// The list counts as it was sent, not as it is kept, and at the limit it is still taken.
#[test]
fn a_list_that_is_too_large_is_refused_and_not_kept() {
    let mut reader = HeadReader::new(200);
    put(&mut reader, get("/"));
    put(&mut reader, vec![regular("a", "b")]);
    assert!(reader.request().is_ok());
    put(&mut reader, get("/"));
    put(&mut reader, vec![regular("a", "b"), regular("a", "b")]);
    assert_eq!(reader.fields.len(), 1);
    assert_eq!(reader.request().err(), Some(HeadFault::TooLarge));
    put(&mut reader, get("/"));
    assert!(reader.request().is_ok(), "and the next one is");
}

/// Through the decoder, as it comes.
#[test]
fn fields_count_thirty_two_bytes_more_than_they_have() {
    let mut block = vec![0x82, 0x84, 0x87];
    put_field(&mut block, &HeaderName::from_static("x-a"), b"12345");
    // :method GET 42, :path / 38, :scheme https 44, x-a 40.
    for (most, fault) in [(164, None), (163, Some(HeadFault::TooLarge))] {
        let mut reader = HeadReader::new(most);
        crate::h2::Decoder::new().decode(&Bytes::from(block.clone()), &mut reader).unwrap();
        assert_eq!(reader.request().err(), fault, "{most}");
    }
}
