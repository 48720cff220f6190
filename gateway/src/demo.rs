//! `weir demo`: everything in one process, on the loopback interface, from nothing.
//!
//! A throw-away certificate, key and folder; three model servers; the gateway, started as `weir
//! serve` starts it, from a file; and a modest load through the edge. What is printed works as
//! pasted. Everything ends with Ctrl-C.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

mod certificates;
mod folder;
mod intro;
mod load;
mod models;
mod prose;
mod screen;
mod setting;
mod story;
mod watch;

use crate::cli::DemoArgs;
use crate::cli::admin_client::{AdminClient, Call, Token};
use crate::cli::console::Console;
use crate::cli::fault::Fault;
use crate::cli::{local, reading, words};
use crate::{Gateway, StartOptions};
use folder::Folder;
use load::Load;
use models::{Manner, Model};
use setting::Addresses;

/// What is at hand once everything runs.
struct Running {
    // In the order in which it is taken down: first those who ask, last those who are asked.
    load: Option<Load>,
    gateway: Gateway,
    models: [Model; 3],
    folder: Folder,
    admin_key: String,
    client_key: String,
    client: AdminClient,
}

/// Runs the demo until it is interrupted.
pub(crate) fn run(args: DemoArgs, console: &mut Console) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::failed(format!("cannot start: {error}"), ""))?;
    // Asked for first: whoever interrupts while things start finds no folder left behind.
    let mut interrupts = runtime
        .block_on(async { Interrupts::new() })
        .map_err(|error| Fault::failed(format!("cannot wait for Ctrl-C: {error}"), ""))?;
    let begun = Instant::now();
    let running = start(args, console)?;
    let intro = intro::intro(&running, console.out_paint());
    console.print(&intro);

    runtime.block_on(watch::watch(&running, &mut interrupts, console));

    console.draw_ends();
    let Running { load, gateway, models, folder, .. } = running;
    let seen = load.as_ref().map(|load| std::sync::Arc::clone(&load.seen));
    let kept = match folder.is_removed() {
        true => "nothing is left".to_owned(),
        false => format!("kept: {}", folder.path().display()),
    };
    let leftover = folder.is_removed().then(|| folder.path().to_owned());
    let down = std::thread::spawn(move || {
        drop(load);
        gateway.stop();
        drop(models);
        drop(folder);
    });
    // A second Ctrl-C is for those who do not want to wait.
    runtime.block_on(async {
        while !down.is_finished() {
            tokio::select! {
                () = interrupts.next() => return,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    });
    // Who does not wait for the store to close gets its folder removed all the same.
    if let Some(path) = leftover
        && !down.is_finished()
    {
        let _ = std::fs::remove_dir_all(path);
    }
    let up = words::span(begun.elapsed().as_secs());
    let answered = seen.map(|seen| {
        let count = |number: u64| words::count(number);
        let failed = match seen.failed.load(Relaxed) {
            0 => "none".to_owned(),
            failed => format!("{} of them", count(failed)),
        };
        let answered = count(seen.answered.load(Relaxed));
        let mut text = format!("; {answered} requests answered, {failed} with an error");
        let broken = seen.broken.load(Relaxed);
        if broken > 0 {
            text.push_str(&format!(", {} connections broken", count(broken)));
        }
        text
    });
    console.print(&format!("stopped after {up}{}; {kept}", answered.unwrap_or_default()));
    Ok(())
}

/// Ctrl-C, or whatever else asks a process to end.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn start(args: DemoArgs, console: &mut Console) -> Result<Running, Fault> {
    let edge = address(args.edge, 8443, "--edge", console)?;
    let admin = address(args.admin, 8444, "--admin", console)?;
    if !admin.ip().is_loopback() {
        return Err(Fault::usage(
            format!("the admin API of the demo has no TLS, so {} is not for it", admin.ip()),
            "name an address on loopback, such as --admin 127.0.0.1:9444",
        ));
    }
    let folder = Folder::open(args.dir)?;
    let models = [
        model("stable", 40, 0.45, 0.002)?,
        model("canary", 50, 0.5, 0.025)?,
        model("next", 33, 0.45, 0.0)?,
    ];
    let [stable, canary, next] = models.each_ref().map(|model| model.address);
    let made = certificates::make(edge.ip())
        .map_err(|error| Fault::failed(format!("cannot make a certificate: {error}"), ""))?;
    folder.write("ca.pem", &made.ca)?;
    folder.write("edge.pem", &made.chain)?;
    folder.write("edge.key", &made.key)?;
    let at = Addresses { edge, admin, stable, canary, next };
    folder.write("weir.toml", &setting::config(&at))?;

    // A folder that was used before has its keys in its store already.
    let admin_key = match folder.read("admin.key") {
        Some(key) => key,
        None => new_key()?,
    };
    folder.write("admin.key", &admin_key)?;
    let options = StartOptions { admin_key: Some(admin_key.clone()), quiet: true };
    let gateway =
        Gateway::start(&folder.path().join("weir.toml"), options).map_err(local::not_started)?;

    let url = format!("http://{}", gateway.admin());
    let client = AdminClient::new(&url, Some(Token::new(admin_key.clone())), None)?;
    let client_key = match folder.read("client.key") {
        Some(key) => key,
        None => {
            let body = json!({ "name": "demo-client", "role": "client" });
            let call = Call::write(Method::POST, "/keys", Some(body));
            let answer = client.ask(call, "make a key for clients", console)?;
            let secret = reading::text(&answer.json, "secret");
            secret.ok_or_else(|| Fault::failed("the gateway made no key", ""))?.to_owned()
        }
    };
    folder.write("client.key", &client_key)?;

    let load = if args.no_load {
        None
    } else {
        let load =
            Load::start(reachable(gateway.edge()), &folder.path().join("ca.pem"), &client_key);
        Some(load.map_err(|error| Fault::failed(format!("cannot start the load: {error}"), ""))?)
    };
    let running = Running { load, gateway, models, folder, admin_key, client_key, client };
    running
        .folder
        .write_script("curl.sh", &format!("#!/bin/sh\n{} \"$@\"\n", intro::curl(&running)))?;
    Ok(running)
}

fn model(name: &'static str, median_ms: u64, spread: f64, failures: f64) -> Result<Model, Fault> {
    let median = Duration::from_millis(median_ms);
    Model::start(Manner { name, median, spread, failures })
        .map_err(|error| Fault::failed(format!("cannot start the model {name}: {error}"), ""))
}

/// The address that was asked for, or the usual one, or any free one if that is in use.
fn address(
    asked: Option<SocketAddr>,
    usual: u16,
    option: &str,
    console: &mut Console,
) -> Result<SocketAddr, Fault> {
    let wanted = asked.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, usual)));
    let Err(error) = TcpListener::bind(wanted) else { return Ok(wanted) };
    if asked.is_some() {
        return Err(Fault::failed(
            format!("cannot listen on {wanted}: {error}"),
            format!("name another address with {option}, or port 0 for a free one"),
        ));
    }
    console.note(&format!("{wanted} is in use; taking a free port instead"));
    Ok(SocketAddr::from((wanted.ip(), 0)))
}

/// An admin key, as good as those that the gateway makes.
fn new_key() -> Result<String, Fault> {
    let mut random = [0; 40];
    crate::ids::random(&mut random)
        .map_err(|error| Fault::failed(format!("the system has no random numbers: {error}"), ""))?;
    Ok(policies::api_key::make(&random).secret.expose().to_owned())
}

/// Where clients on this machine find a listener at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_found_on_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:8443"), "127.0.0.1:8443");
        assert_eq!(at("[::]:8443"), "[::1]:8443");
        assert_eq!(at("127.0.0.1:1"), "127.0.0.1:1");
    }

    #[test]
    fn an_address_that_was_asked_for_is_not_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = taken.local_addr().unwrap();
        let mut console = Console::into(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let fault = address(Some(at), 8443, "--edge", &mut console).unwrap_err();
        assert_eq!(fault.mend, "name another address with --edge, or port 0 for a free one");
        let other = address(None, at.port(), "--edge", &mut console).unwrap();
        assert_eq!(other.port(), 0);
    }
}
