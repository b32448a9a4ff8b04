//! Parsers of upstreams' texts, exposed only for the fuzz targets of `registry/fuzz`.

use hab_outbound::Offer;

/// Realms and services of the challenges in a header.
pub fn challenge(header: &str) -> Vec<String> {
    let Ok(value) = header.parse() else { return Vec::new() };
    let headers =
        hab_outbound::header::HeaderMap::from_iter([(hab_outbound::header::WWW_AUTHENTICATE, value)]);
    let said = hab_outbound::offers(&headers).into_iter().flat_map(|offer| match offer {
        Offer::Basic => [None, None],
        Offer::Bearer { realm, service } => [Some(realm), service],
    });
    said.flatten().collect()
}
