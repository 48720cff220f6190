//! Listeners, limits, store, recording, telemetry.

use std::net::SocketAddr;
use std::time::Duration;

use super::Check;
use crate::config::plan::{
    AccessLog, Admin, Cidr, Durability, Limits, Recording, Server, Store, Telemetry,
};
use crate::config::value;
use crate::config::written::{self, At};
use crate::telemetry::traces;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

impl Check<'_> {
    pub(super) fn server(&mut self, server: Option<At<written::Server>>) -> Server {
        if server.is_none() && self.present(&["server"]) {
            let mend = "add [server] with listen, and [server.tls] with certificates";
            let problem = self.source.whole("[server] is missing".to_owned(), mend.to_owned());
            self.problems.push(problem);
        }
        let absent = server.is_none();
        let At { span, value: server } = server.unwrap_or_default();
        let written::Server {
            listen,
            tls,
            workers,
            health_path,
            trusted_peers,
            limits,
            pre_drain,
            drain_timeout,
        } = server;
        let example = "\"0.0.0.0:8443\"";
        let mut address = SocketAddr::from(([0, 0, 0, 0], 8443));
        let mut certificates = Vec::new();
        if !absent {
            let listen = self.required(listen, "server", &["server"], "listen", &span, example);
            if let Some(listen) = listen {
                address = self.listen("server.listen", &listen, address);
            }
            match tls {
                Some(tls) => {
                    certificates = self.certificates("server.tls", &["server", "tls"], tls)
                }
                None if self.present(&["server", "tls"]) => {
                    let mend = "the edge speaks TLS only: add [server.tls] with\n\
                                certificates = [{ chain = \"edge.pem\", key = \"edge.key\" }]";
                    self.problem(&span, "server: [server.tls] is missing", mend);
                }
                None => {}
            }
        }
        let cores = self.world.cores.max(1);
        let workers = match self.whole("server.workers", workers.as_ref(), 0, 0..=1024) {
            0 => cores,
            workers => workers,
        };
        let hour = Duration::from_secs(3600);
        Server {
            listen: address,
            workers,
            health_path: health_path.map(|path| self.request_path("server.health_path", &path)),
            certificates,
            trusted_peers: self.trusted_peers(trusted_peers),
            limits: self.limits(limits),
            // Zero is sound here: nothing is unlimited by it.
            pre_drain: self.duration(
                "server.pre_drain",
                pre_drain.as_ref(),
                Duration::from_secs(5),
                Duration::ZERO..=hour,
            ),
            drain_timeout: self.duration(
                "server.drain_timeout",
                drain_timeout.as_ref(),
                Duration::from_secs(300),
                MILLISECOND..=DAY,
            ),
        }
    }

    fn trusted_peers(&mut self, peers: Option<At<Vec<At<String>>>>) -> Vec<Cidr> {
        let mut networks = Vec::new();
        for peer in peers.map(|peers| peers.value).unwrap_or_default() {
            match value::cidr(&peer.value) {
                Ok(network) => networks.push(network),
                Err(reason) => {
                    let shown = self.show(&peer);
                    let reason = if self.expanded.contains(&peer.span.start) {
                        "its address or prefix is malformed".to_owned()
                    } else {
                        reason
                    };
                    let what = format!("server.trusted_peers: {shown} is not a network: {reason}");
                    self.problem(&peer.span, what, "write \"10.0.0.0/8\", or one address");
                }
            }
        }
        networks
    }

    fn listen(&mut self, label: &str, listen: &At<String>, default: SocketAddr) -> SocketAddr {
        listen.value.parse().unwrap_or_else(|_| {
            let what = format!("{label}: {} is not an address with a port", self.show(listen));
            let mend =
                "write \"0.0.0.0:8443\" (IPv4), \"[::]:8443\" (IPv6 too); port 0 takes a free one";
            self.problem(&listen.span, what, mend);
            default
        })
    }

    fn limits(&mut self, limits: Option<At<written::Limits>>) -> Limits {
        let written::Limits {
            target_bytes,
            header_bytes,
            h2_header_bytes,
            header_fields,
            header_timeout,
            body_bytes,
            body_idle_timeout,
            body_min_rate,
            h2_streams,
            h2_stream_window,
            h2_connection_window,
            connections,
            connections_per_address,
            handshakes,
            handshake_timeout,
            idle_timeout,
            h2_idle_timeout,
            requests_per_connection,
            in_flight,
            response_header_bytes,
            response_header_fields,
            write_buffer,
            write_timeout,
            replay_bytes,
            shadow_bytes,
            inspect_bytes,
            compare_bytes,
        } = limits.unwrap_or_default().value;
        // HTTP/2 counts its windows in 31 bits. hyper's smallest read buffer is 8 KiB.
        let window = (1 << 31) - 1;
        let name = |member: &str| format!("server.limits.{member}");
        let mut bytes = |member, written: Option<At<written::Size>>, default: u64, range| {
            self.size(&name(member), written.as_ref(), default, range)
        };
        let target_bytes = bytes("target_bytes", target_bytes, 8 * KIB, 64..=64 * KIB);
        let header_bytes = bytes("header_bytes", header_bytes, 32 * KIB, 8 * KIB..=MIB);
        let h2_header_bytes = bytes("h2_header_bytes", h2_header_bytes, 16 * KIB, KIB..=MIB);
        let body_bytes = bytes("body_bytes", body_bytes, 10 * MIB, 1..=64 * GIB);
        let body_min_rate = bytes("body_min_rate", body_min_rate, KIB, 1..=GIB);
        let h2_stream_window = bytes("h2_stream_window", h2_stream_window, 64 * KIB, KIB..=window);
        let h2_connection_window =
            bytes("h2_connection_window", h2_connection_window, MIB, 65_535..=window);
        let response_header_bytes =
            bytes("response_header_bytes", response_header_bytes, 64 * KIB, 8 * KIB..=MIB);
        let write_buffer = bytes("write_buffer", write_buffer, 256 * KIB, 4 * KIB..=64 * MIB);
        let replay_bytes = bytes("replay_bytes", replay_bytes, 64 * KIB, 1..=64 * MIB);
        let shadow_bytes = bytes("shadow_bytes", shadow_bytes, MIB, 1..=64 * MIB);
        let inspect_bytes = bytes("inspect_bytes", inspect_bytes, MIB, 1..=64 * MIB);
        let compare_bytes = bytes("compare_bytes", compare_bytes, 64 * MIB, MIB..=16 << 30);
        let mut count = |member, written: Option<At<u64>>, default: u64, most| {
            self.whole(&name(member), written.as_ref(), default, 1..=most)
        };
        let header_fields = count("header_fields", header_fields, 100, 1000);
        let h2_streams = count("h2_streams", h2_streams, 100, 10_000);
        let connections = count("connections", connections, 10_000, 1_000_000);
        let connections_per_address =
            count("connections_per_address", connections_per_address, 256, 1_000_000);
        let handshakes = count("handshakes", handshakes, 512, 100_000);
        let requests_per_connection =
            count("requests_per_connection", requests_per_connection, 10_000, 1_000_000_000);
        let in_flight = count("in_flight", in_flight, 4096, 1_000_000);
        let response_header_fields =
            count("response_header_fields", response_header_fields, 128, 1000);
        let mut time = |member, written: Option<At<written::Duration>>, seconds| {
            let default = Duration::from_secs(seconds);
            self.duration(&name(member), written.as_ref(), default, MILLISECOND..=DAY)
        };
        // Every default and every upper end above fits; saturating keeps the compiler sure of it.
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Limits {
            target_bytes: size(target_bytes),
            header_bytes: size(header_bytes),
            h2_header_bytes: small(h2_header_bytes),
            header_fields: size(header_fields),
            header_timeout: time("header_timeout", header_timeout, 10),
            body_bytes,
            body_idle_timeout: time("body_idle_timeout", body_idle_timeout, 30),
            body_min_rate,
            h2_streams: small(h2_streams),
            h2_stream_window: small(h2_stream_window),
            h2_connection_window: small(h2_connection_window),
            connections: size(connections),
            connections_per_address: size(connections_per_address),
            handshakes: size(handshakes),
            handshake_timeout: time("handshake_timeout", handshake_timeout, 5),
            idle_timeout: time("idle_timeout", idle_timeout, 75),
            h2_idle_timeout: time("h2_idle_timeout", h2_idle_timeout, 300),
            requests_per_connection,
            in_flight: size(in_flight),
            response_header_bytes: size(response_header_bytes),
            response_header_fields: size(response_header_fields),
            write_buffer: size(write_buffer),
            write_timeout: time("write_timeout", write_timeout, 30),
            replay_bytes: size(replay_bytes),
            shadow_bytes: size(shadow_bytes),
            inspect_bytes: size(inspect_bytes),
            compare_bytes: size(compare_bytes),
        }
    }

    pub(super) fn admin(&mut self, admin: Option<At<written::Admin>>, server: &Server) -> Admin {
        let At { span, value: written::Admin { listen, tls, hosts } } = admin.unwrap_or_default();
        let mut address = SocketAddr::from(([127, 0, 0, 1], 8444));
        let at = listen.as_ref().map_or(span, |listen| listen.span.clone());
        if let Some(listen) = listen {
            address = self.listen("admin.listen", &listen, address);
        }
        let same_address = address.ip() == server.listen.ip()
            || address.ip().is_unspecified()
            || server.listen.ip().is_unspecified();
        if address.port() != 0 && address.port() == server.listen.port() && same_address {
            let what = format!("admin.listen: port {} is the edge's already", address.port());
            self.problem(&at, what, "the admin API never shares a port with the edge");
        }
        let certificates = match tls {
            Some(tls) => self.certificates("admin.tls", &["admin", "tls"], tls),
            None => {
                if !address.ip().is_loopback() && self.present(&["admin", "tls"]) {
                    let what = format!("admin.listen: {address} can be reached from outside");
                    let mend = "add [admin.tls] with certificates, or listen on 127.0.0.1";
                    self.problem(&at, what, mend);
                }
                Vec::new()
            }
        };
        let mut names = Vec::new();
        for host in hosts.map(|hosts| hosts.value).unwrap_or_default() {
            match value::authority(&host.value) {
                Ok(_) => names.push(host.value.to_ascii_lowercase()),
                Err(reason) => {
                    let what = format!("admin.hosts: {} is not a host: {reason}", self.show(&host));
                    self.problem(&host.span, what, "write a name such as \"weir.example.com\"");
                }
            }
        }
        Admin { listen: address, certificates, hosts: names }
    }

    pub(super) fn store(&mut self, store: Option<At<written::Store>>) -> Store {
        let At { span: _, value: written::Store { url } } = store.unwrap_or_default();
        let Some(url) = url else { return Store::Sqlite(self.file("weir.db")) };
        let path =
            url.value.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match path {
            Some(path)
                if !path.is_empty() && !path.starts_with(':') && !path.contains(['?', '\0']) =>
            {
                return Store::Sqlite(self.file(path));
            }
            Some(_) => {
                let what = "store.url names no file";
                self.problem(
                    &url.span,
                    what,
                    "write \"sqlite:weir.db\": keys and outcomes are kept there",
                );
            }
            None => {
                // The address of another database may hold a password: it is not repeated.
                let what = "store.url: only SQLite is supported in this version";
                self.problem(&url.span, what, "write \"sqlite:PATH\"");
            }
        }
        Store::Sqlite(self.file("weir.db"))
    }

    pub(super) fn recording(
        &mut self,
        recording: Option<At<written::Recording>>,
        store: &Store,
    ) -> Recording {
        let At { span: _, value: recording } = recording.unwrap_or_default();
        let written::Recording { outcomes, retention, spool, spool_bytes } = recording;
        let Store::Sqlite(database) = store;
        let spool = match spool {
            Some(spool) if spool.value.is_empty() || spool.value.contains('\0') => {
                let mend = "write the path of a folder, or leave it out";
                self.problem(&spool.span, "recording.spool names no folder", mend);
                self.file("weir.db.spool")
            }
            Some(spool) => self.file(&spool.value),
            None => {
                let mut name = database.clone().into_os_string();
                name.push(".spool");
                name.into()
            }
        };
        let outcomes = match outcomes.map(|outcomes| outcomes.value) {
            Some(written::Durability::Sync) => Durability::Sync,
            Some(written::Durability::Group) | None => Durability::Group,
            Some(written::Durability::Async) => Durability::Async,
            Some(written::Durability::Off) => Durability::Off,
        };
        let retention = retention.map(|retention| {
            let range = Duration::from_secs(60)..=DAY * 36_500;
            self.duration("recording.retention", Some(&retention), DAY, range)
        });
        let range = MIB..=1024 * GIB;
        let spool_bytes = self.size("recording.spool_bytes", spool_bytes.as_ref(), GIB, range);
        Recording { outcomes, retention, spool, spool_bytes }
    }

    pub(super) fn telemetry(&mut self, telemetry: Option<At<written::Telemetry>>) -> Telemetry {
        let At { span: _, value: telemetry } = telemetry.unwrap_or_default();
        let written::Telemetry { access_log, sample, otlp } = telemetry;
        let access_log =
            access_log.map_or(AccessLog::Stdout, |target| match target.value.as_str() {
                "off" => AccessLog::Off,
                "errors" => AccessLog::Errors,
                "stdout" => AccessLog::Stdout,
                other => match other.strip_prefix("file:") {
                    Some(path) if !path.is_empty() && !path.contains('\0') => {
                        AccessLog::File(self.file(path))
                    }
                    Some(_) | None => {
                        let what = format!(
                            "telemetry.access_log: {} is not known here",
                            self.show(&target)
                        );
                        let mend = "known here: off, errors, stdout, file:PATH";
                        self.problem(&target.span, what, mend);
                        AccessLog::Stdout
                    }
                },
            });
        let written::Sample { ratio, errors } = sample.unwrap_or_default().value;
        let sample_ratio = ratio.map_or(0.01, |ratio| {
            if !(0.0..=1.0).contains(&ratio.value) {
                let what = format!("telemetry.sample.ratio is {}", ratio.value);
                self.problem(&ratio.span, what, "a share from 0 (none) to 1 (every request)");
            }
            ratio.value
        });
        Telemetry {
            access_log,
            sample_ratio,
            sample_errors: errors.is_none_or(|errors| errors.value),
            otlp: self.otlp(otlp),
        }
    }

    /// The collector: what the file says, or else the standard variables, of which the one for
    /// traces counts more.
    fn otlp(&mut self, otlp: Option<At<String>>) -> Option<String> {
        if let Some(url) = otlp {
            if !is_http_url(&url.value) {
                let what = format!("telemetry.otlp: {} is not an http(s) URL", self.show(&url));
                self.problem(&url.span, what, "write \"http://127.0.0.1:4317\"");
            } else if let Err(why) = self.can_export(&url.value) {
                self.problem(&url.span, format!("telemetry.otlp: {why}"), MEND_EXPORT);
            }
            return Some(url.value);
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            match (self.world.variable)(name) {
                Some(url) if url.is_empty() => {}
                Some(url) if is_http_url(&url) => {
                    if let Err(why) = self.can_export(&url) {
                        let what = format!("the environment variable {name}: {why}");
                        self.problems.push(self.source.whole(what, MEND_EXPORT.to_owned()));
                    }
                    return Some(url);
                }
                Some(_) => {
                    let what = format!("the environment variable {name} is not an http(s) URL");
                    let mend = "correct or unset it, or write telemetry.otlp".to_owned();
                    self.problems.push(self.source.whole(what, mend));
                }
                None => {}
            }
        }
        None
    }

    fn can_export(&mut self, url: &str) -> Result<(), String> {
        traces::check(url, self.world.variable, self.world.read)
    }
}

const MEND_EXPORT: &str = "correct the environment variable it names, or the endpoint";

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        value::authority(authority).is_ok() && url.parse::<http::Uri>().is_ok()
    })
}
