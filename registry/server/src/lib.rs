//! The OCI distribution API, `/v2`, over the store.
//!
//! Layer: above `hab-store` and `hab-upstream`; the latter pulls from other registries. The program opens the listener,
//! and this crate answers requests. It holds no state of its own: the catalog has every fact that it serves, and the
//! store hashed every byte when it came in.
//!
//! The path of a request: [`serve()`] accepts the connection, over TLS if the registry has [`Tls`], and gives it one of
//! its `slots`. `handle` identifies the caller, finds the endpoint in the path (`route`) and checks that the caller may
//! use it ([`Access`], [`Guard`]). The file named after the endpoint answers (`manifests`, `blobs`, `uploads`, `tags`,
//! `referrers`, `catalog`, `token`), with only the parts of the [`Registry`] that it uses. Every failure becomes one
//! `Error`, also those of access control and upstreams; only `error` turns it into a status and a body.
//!
//! Start reading at [`router`].

mod access;
mod beside;
mod blobs;
mod body;
mod catalog;
mod chunks;
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
    Change, ImageJudge, Patience, PlatformName, Revalidate, Selection, SelectionError, Signature, Signed,
    SyncError, SyncRule, Synced, UpstreamConfig, Upstreams,
};
pub use handle::router;
pub use limits::{Rules, ServiceLimits};
pub use network::{Network, NetworkError};
pub use observe::{AccessLog, Metrics};
pub use registry::Registry;
pub use serve::serve;
pub use tls::{ClientCertificates, Tls, TlsConfig};
