//! Where clients come in: sockets, TLS, HTTP, up to the request path.

pub mod accept;
pub mod tls;
pub mod conn;
pub mod edge_io;
pub mod gather;
pub mod http;
pub mod socket;
pub mod tunnel;
