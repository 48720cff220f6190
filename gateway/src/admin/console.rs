//! The console: a page and its files, built from `gateway/console/` and part of the binary.
//!
//! Every place of the console is the same page; which one is shown stands in the address and is the
//! page's own business, so that links can be kept and passed on. Nothing here is secret and nothing here
//! needs a credential: what the page shows, it asks the API for.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::error::no_such_path;
use super::extract::Path;
use crate::ids;

/// One file as it was built: as it is, and packed.
struct File {
    name: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    brotli: &'static [u8],
    gzip: &'static [u8],
    /// Of the content, however it is packed.
    etag: LazyLock<String>,
}

macro_rules! built {
    ($name:literal, $kind:literal) => {
        File {
            name: $name,
            kind: $kind,
            plain: include_bytes!(concat!("../../console/dist/", $name)),
            brotli: include_bytes!(concat!("../../console/dist/", $name, ".br")),
            gzip: include_bytes!(concat!("../../console/dist/", $name, ".gz")),
            etag: LazyLock::new(|| {
                let bytes: &[u8] = include_bytes!(concat!("../../console/dist/", $name));
                ids::hex(&blake3::hash(bytes).as_bytes()[..16])
            }),
        }
    };
}

static PAGE: File = built!("index.html", "text/html; charset=utf-8");

static FILES: [File; 4] = [
    built!("console.js", "text/javascript; charset=utf-8"),
    built!("console.css", "text/css; charset=utf-8"),
    built!("scheme.js", "text/javascript; charset=utf-8"),
    built!("weir.svg", "image/svg+xml"),
];

/// The page, whatever its place.
pub async fn page(headers: HeaderMap) -> Response {
    answer(&PAGE, &headers)
}

/// One of its files.
pub async fn file(Path(name): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => answer(file, &headers),
        None => no_such_path(uri).await.into_response(),
    }
}

/// The file as the browser likes it best, or word that it has it already.
fn answer(file: &'static File, headers: &HeaderMap) -> Response {
    let accepts = |coding: &str| {
        let fields = headers.get_all(header::ACCEPT_ENCODING).iter();
        let mut codings =
            fields.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        codings.any(|each| is_accepted(each, coding))
    };
    let (bytes, coding) = if accepts("br") {
        (file.brotli, Some("br"))
    } else if accepts("gzip") {
        (file.gzip, Some("gzip"))
    } else {
        (file.plain, None)
    };
    // A tag names bytes, and each packing has its own.
    let etag = format!("\"{}-{}\"", *file.etag, coding.unwrap_or("plain"));
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|tags| {
            tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
        })
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.kind)], bytes).into_response()
    };
    let fields = response.headers_mut();
    if let Some(coding) = coding.filter(|_| !is_known) {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        fields.insert(header::ETAG, etag);
    }
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // Kept, but asked about each time: a page and a script of two versions do not fit together.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether `each` of an `Accept-Encoding` list takes `coding`.
fn is_accepted(each: &str, coding: &str) -> bool {
    let mut parts = each.split(';').map(str::trim);
    let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
    let is_refused = parts.any(|part| {
        let weight = part.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        weight.is_some_and(|weight| weight <= 0.0)
    });
    is_named && !is_refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_taken_if_it_is_named_and_not_refused() {
        assert!(is_accepted("br", "br") && is_accepted(" gzip;q=0.5", "gzip"));
        assert!(is_accepted("BR ; q=1", "br"));
        assert!(!is_accepted("br;q=0", "br") && !is_accepted("br;q=0.000", "br"));
        assert!(!is_accepted("gzip", "br") && !is_accepted("*", "br") && !is_accepted("", "br"));
    }

    #[test]
    fn all_of_the_console_is_less_than_150_kib_packed() {
        let all = FILES.iter().chain([&PAGE]);
        let (brotli, gzip) = all.fold((0, 0), |(brotli, gzip), file| {
            (brotli + file.brotli.len(), gzip + file.gzip.len())
        });
        assert!(brotli < 150 * 1024 && gzip < 150 * 1024, "{brotli} {gzip}");
    }
}
