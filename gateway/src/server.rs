//! Where clients come in: sockets, TLS, HTTP, up to the request path.

pub mod accept;
pub mod tls;
pub mod conn;
pub mod http;
pub mod running;
pub mod h1;
pub mod h2;
mod out;
mod pipe;
pub mod socket;
pub mod tunnel;
