//! The page that a person sees at the farm's address, and the answer for a path that does not exist: what is served,
//! and how to use it. It shows nothing that only some may see, so it needs no account.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hab_mirror_server::Mirror;

/// One service of the farm.
struct Service {
    title: &'static str,
    path: &'static str,
    about: String,
    /// The commands to use it.
    words: Vec<String>,
}

/// The routes of the front page, and the answer for every path without a route.
pub fn router(mirror: Mirror) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/style.css", get(style))
        .route("/robots.txt", get(robots))
        .fallback(nothing)
        .with_state(Arc::new(mirror))
}

async fn page(State(mirror): State<Arc<Mirror>>, headers: HeaderMap) -> Response {
    let origin = origin(&headers);
    let suites = tokio::task::spawn_blocking(move || mirror.suites()).await;
    let services = services(&origin, &suites.ok().and_then(Result::ok).unwrap_or_default());
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") {
        let policy = HeaderValue::from_static("default-src 'none'; style-src 'self'; frame-ancestors 'none'");
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)];
        (of_this_client(), headers, html(&services)).into_response()
    } else {
        (of_this_client(), text(&services)).into_response()
    }
}

/// Headers that keep a cache from giving this page to another client, because it names the address that this client
/// used.
fn of_this_client() -> [(header::HeaderName, &'static str); 2] {
    [
        (header::VARY, "Accept, Host, X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Prefix"),
        (header::CACHE_CONTROL, "private, no-cache"),
    ]
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], include_str!("style.css")).into_response()
}

/// Asks programs that follow every link to stay away, because they would clone every history.
async fn robots() -> &'static str {
    "User-agent: *\nAllow: /$\nDisallow: /\n"
}

async fn nothing(uri: Uri) -> Response {
    let mut path: String = uri.path().chars().take(100).collect();
    path.retain(|c| c.is_ascii_graphic());
    let sentence = format!(
        "there is nothing at {path} here\n\nServed are /v2/ (container images), /git/ (git), /debian/ (Debian packages), /crates/ (crates), \
         /releases/, /files/ and\n/depends-sources/; / says how they are used. There is no mirror of npm, PyPI or Go modules.\n"
    );
    (StatusCode::NOT_FOUND, sentence).into_response()
}

/// The address that the client used, made only of characters that mean nothing in a page or in a shell.
fn origin(headers: &HeaderMap) -> String {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (host, prefix) = (said("host"), said("x-forwarded-prefix"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:[]".contains(&b);
    if host.is_empty() || !host.bytes().chain(prefix.bytes()).all(plain) {
        return "http://FARM".to_owned();
    }
    let scheme = if said("x-forwarded-proto") == "https" { "https" } else { "http" };
    format!("{scheme}://{host}{prefix}")
}

fn services(origin: &str, suites: &[String]) -> Vec<Service> {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let plain = origin.starts_with("http://");
    let insecure = if plain { " --tls-verify=false" } else { "" };
    let suite = suites.first().map_or("SUITE", String::as_str);
    let kept = if suites.is_empty() { "none yet".to_owned() } else { suites.join(", ") };
    vec![
        Service {
            title: "Container images",
            path: "/v2/",
            about: "An OCI registry. What was built here, and other registries that are pulled through it.".to_owned(),
            words: vec![
                format!("podman pull{insecure} {host}/NAME:TAG"),
                format!("hab-build cluster config k3s --registry {origin}"),
                format!("curl {origin}/v2/_catalog"),
            ],
        },
        Service {
            title: "Git",
            path: "/git/",
            about: "Copies of projects with every ref that ever moved; below verified/ only what a project's policy accepts."
                .to_owned(),
            words: vec![
                format!("git clone {origin}/git/bitcoin.git"),
                format!("git clone {origin}/git/verified/bitcoin.git"),
            ],
        },
        Service {
            title: "Debian packages",
            path: "/debian/",
            about: format!("An archive for apt with the packages that builds need, signed by Debian. Suites: {kept}."),
            words: vec![format!(
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {origin}/debian {suite} main"
            )],
        },
        Service {
            title: "Crates",
            path: "/crates/",
            about: "A sparse index for cargo with the crates that builds need.".to_owned(),
            words: vec![format!("registry = \"sparse+{origin}/crates/\"")],
        },
        Service {
            title: "Files",
            path: "/releases/",
            about: "Releases with their signed lists, sources that Bitcoin Core's depends names, single files; whoever knows a name \
                    gets it."
                .to_owned(),
            words: vec![
                format!("curl -O {origin}/releases/PROJECT/VERSION/FILE"),
                format!("curl -O {origin}/depends-sources/FILE"),
                format!("curl -O {origin}/files/NAME"),
            ],
        },
    ]
}

const CLAIM: &str = "Mirrored, verified, built twice and compared on this machine. Digests say what you got; take nobody's \
                     word for it.";

fn text(services: &[Service]) -> String {
    let mut text = format!("hab-build\n{CLAIM}\n");
    for Service { title, path, about, words } in services {
        text.push_str(&format!("\n{title}  {path}\n  {about}\n"));
        for line in words {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

fn html(services: &[Service]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>hab-build</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n<main>\n<h1>hab-build</h1>\n<p>{CLAIM}</p>\n"
    );
    for Service { title, path, about, words } in services {
        let words = escaped(&words.join("\n"));
        let about = escaped(about);
        page.push_str(&format!(
            "<section>\n<h2>{title} <code>{path}</code></h2>\n<p>{about}</p>\n<pre tabindex=\"0\">{words}</pre>\n</section>\n"
        ));
    }
    page.push_str("</main>\n</html>\n");
    page
}

/// Escapes a text for HTML, because a stranger chose a suite's name.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).try_into().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_page_names_the_address_that_its_reader_came_by() {
        assert_eq!(origin(&headers(&[("host", "farm:5000")])), "http://farm:5000");
        let behind =
            [("host", "farm.example"), ("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/hab")];
        assert_eq!(origin(&headers(&behind)), "https://farm.example/hab");
        for odd in ["", "<script>", "a b", "a$(id)"] {
            assert_eq!(origin(&headers(&[("host", odd)])), "http://FARM", "{odd}");
        }
    }

    #[test]
    fn a_name_of_a_stranger_is_text_in_the_page() {
        let page = html(&services("https://farm.example", &["<b>".to_owned()]));
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
        assert!(!page.contains("--tls-verify=false"));
    }
}
