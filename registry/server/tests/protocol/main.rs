//! The distribution specification, spoken over real connections.
#![allow(clippy::unwrap_used, clippy::format_push_string, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod catalog;
mod conditions;
mod connections;
mod holding;
mod holding_model;
mod hostile;
mod http2;
mod limits;
mod listed;
mod load;
mod manifests;
mod observe;
mod pull;
mod push;
mod ranges;
mod sendfile;
mod through;
mod tls;
mod tokens;
mod uploads;
mod upstream_bundles;
mod upstream_bytes;
mod upstream_credentials;
mod upstream_faults;
mod upstream_kills;
mod upstream_lists;
mod upstream_mend;
mod upstream_names;
mod upstream_reasons;
mod upstream_redirects;
mod upstream_revalidate;
mod upstream_signed;
mod upstream_sync;
mod upstream_tokens;
