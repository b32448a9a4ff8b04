//! The OCI distribution API, `/v2`, over the store.
//!
//! Layer: above `hab-store`, and above `hab-upstream`, through which other registries are pulled; the program listens
//! and this crate answers. It holds no state of its own: everything that it serves is in the catalog, and every byte
//! that it serves was hashed by the store when it came in.
//!
//! A request goes: [`serve()`] accepts it, over TLS if it has [`Tls`], and gives it one of its `slots`; `handle`
//! finds out who asks and the endpoint in its path (`route`), asks whether the caller may ([`Access`], [`Guard`]),
//! and gives it to the file named after the endpoint (`manifests`, `blobs`, `uploads`, `tags`, `referrers`,
//! `catalog`, `token`), with as much of the [`Registry`] as that uses. Whatever goes wrong becomes one `Error`, also
//! what access control and upstreams say, and `error` alone turns it into a status and a body.
//!
//! Start reading at [`router`].

mod access;
mod beside;
mod blobs;
mod body;
mod catalog;
mod chain;
mod chunks;
mod clock;
mod conditions;
mod connection;
mod early;
mod error;
mod files;
mod flow;
mod forwarded;
mod handle;
mod http;
mod introduced;
mod kept;
mod limits;
mod list;
mod manifests;
mod multipart;
mod network;
mod observe;
#[doc(hidden)]
pub mod parsers;
mod range;
mod referrers;
mod registry;
mod route;
mod sendfile;
mod serve;
mod slot;
mod slots;
mod tags;
mod tls;
mod token;
mod uploads;
mod wire;

pub use access::{
    Access, AccessConfig, AccessError, AccessRule, Account, AccountError, Action, Grant, Guard, Issue,
    Issued, LineError, NewToken, Rate, Who, issue, revoke,
};
pub use files::FewFiles;
pub use forwarded::Front;
pub use hab_upstream::{
    Change, Judge, Patience, PlatformName, Revalidate, Selection, SelectionError, Signature, Signed,
    SyncError, SyncRule, Synced, UpstreamConfig, Upstreams,
};
pub use handle::router;
pub use limits::{Limits, Rules};
pub use network::{Network, NetworkError};
pub use observe::{AccessLog, Metrics};
pub use registry::Registry;
pub use serve::serve;
pub use tls::{ClientCertificates, Tls, TlsConfig};
