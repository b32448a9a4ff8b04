//! The house's only HTTP client for hosts outside.
//!
//! A host that answers a request chooses what is read next: where a redirect leads, which token service is asked, how
//! long an answer is. This crate decides which of these choices are accepted. In scope: which addresses are inner
//! ([`is_inner`]), where a redirect may lead ([`redirect_target`]), which credentials an origin gets
//! ([`Authorization`], [`TokenService`]), what `WWW-Authenticate` offers ([`offers`]), and one client that keeps these
//! rules and limits of bytes and time ([`Client`]; for synchronous callers, [`Blocking`]). Out of scope: what answers
//! mean, when to try again, and storage. One case is tried again at once, on a new connection: a request that the end
//! of a kept connection cut off.
//!
//! The rules, and the file that keeps each:
//!
//! - Redirects are followed by hand, at most five, without credentials, and never from https to http (`redirect.rs`).
//! - An address that only this machine or its network can reach is asked only at an origin that the operator named.
//!   That is decided after name resolution, anew for each request (`inner.rs`, `resolve.rs`, `client.rs`).
//! - Credentials are made for one origin and sent to no other (`authorization.rs`). A token service is asked only if
//!   `token_service.rs` accepted it.
//! - No answer is decoded: a request asks for the identity encoding only, and an answer in another one is refused
//!   (`answer.rs`).
//! - An error names the cause and the address, without user, password and query (`problem.rs`).
//!
//! Start reading at [`Client::send`].

mod answer;
mod authorization;
mod blocking;
mod challenge;
mod client;
mod inner;
mod origin;
mod problem;
mod redirect;
mod resolve;
mod settings;
mod token_service;
mod way;

pub use answer::Answer;
pub use authorization::{Authorization, BadCredential};
pub use blocking::{Blocking, BlockingAnswer, NoClient};
pub use challenge::{Offer, offers};
pub use client::{Client, NamedBy, Request};
pub use inner::{is_inner, looks_inner};
pub use origin::{BadOrigin, Origin, shown};
pub use problem::{Cause, Problem, story};
pub use redirect::{NotFollowed, redirect_target};
pub use reqwest::header;
pub use reqwest::{Method, StatusCode, Url};
pub use settings::{BadSettings, Proxies, Settings};
pub use token_service::{Known, NotAccepted, TokenService};
